"""For tests that make real containers: see `engine_fixtures`."""

from __future__ import annotations

import os

import pytest

from engine_fixtures import busybox, engine, make_engine, shared_engine

__all__ = ["busybox", "engine", "make_engine", "shared_engine"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Root is needed here: say so instead of failing in a hundred ways."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: run as root (sudo .venv/bin/pytest)"))
