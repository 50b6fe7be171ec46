"""For tests that make real containers: see `engine_fixtures`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_fixtures import busybox, engine, make_engine, shared_engine
from small_disk import SmallDisk, small_disk

__all__ = ["busybox", "engine", "make_engine", "shared_engine"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system that a test may fill."""
    with small_disk(tmp_path) as disk:
        yield disk


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Root is needed here: say so instead of failing in a hundred ways."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: run as root (sudo .venv/bin/pytest)"))
