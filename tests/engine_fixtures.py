"""Fixtures for tests that make real containers; the conftest.py of such a suite imports them.

`engine`: a running engine with a busybox image, shared by the whole session; what a test made is removed after it.
`make_engine`: engines of the test's own, for tests that stop, kill or configure them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from busybox_image import busybox_archive
from running_engine import RunningEngine


@pytest.fixture(scope="session")
def busybox() -> bytes:
    """The busybox image as an archive for `docker load`."""
    return busybox_archive()


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory, busybox: bytes) -> Iterator[RunningEngine]:
    """The session's engine. Tests take `engine`, which cleans up after each."""
    running = RunningEngine(tmp_path_factory.mktemp("engine"))
    with running.holding(busybox):
        yield running


@pytest.fixture
def engine(shared_engine: RunningEngine) -> Iterator[RunningEngine]:
    """A running engine that holds `busybox:latest` and nothing else."""
    yield shared_engine
    shared_engine.remove_everything()


@pytest.fixture
def make_engine(tmp_path: Path, busybox: bytes) -> Iterator[Callable[..., RunningEngine]]:
    """Start an engine of one's own: `make_engine("--live-restore")`; it holds busybox unless `image=False`."""
    started: list[RunningEngine] = []

    def start(*flags: str, image: bool = True) -> RunningEngine:
        running = RunningEngine(tmp_path / f"engine{len(started)}", flags)
        started.append(running)
        running.start()
        if image:
            with running.client() as client:
                client.images.load(busybox)
        return running

    yield start
    for running in started:
        running.close()
