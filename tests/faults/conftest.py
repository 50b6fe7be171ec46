"""Engines of one's own, as the integration tests have them."""

from integration.conftest import busybox, make_engine, pytest_collection_modifyitems

__all__ = ["busybox", "make_engine", "pytest_collection_modifyitems"]
