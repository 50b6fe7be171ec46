"""Real cgroups beneath a parent of the test's own, emptied and removed afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator

import pytest

from sampan.cgroups import Cgroup, Layout, detect
from sampan.cgroups.v2 import CgroupV2

PARENT = "/sampan-test-cgroups"


@pytest.fixture
def layout() -> Layout:
    return detect()


@pytest.fixture
def new_cgroup(layout: Layout) -> Iterator[Callable[[], Cgroup]]:
    """Names of cgroups of the machine's layout; what the test creates is removed."""
    yield from _cgroups(layout.cgroup)


@pytest.fixture
def cgroup(new_cgroup: Callable[[], Cgroup]) -> Cgroup:
    group = new_cgroup()
    group.create()
    return group


@pytest.fixture
def unified(layout: Layout) -> Iterator[CgroupV2]:
    """A created cgroup of the v2 hierarchy: on a hybrid machine without controllers, but with all core files."""
    assert layout.unified is not None, "needs a mounted cgroup2"
    root = layout.unified
    for new in _cgroups(lambda path: CgroupV2(root, path)):
        group = new()
        group.create()
        assert isinstance(group, CgroupV2)
        yield group


def _cgroups(make: Callable[[str], Cgroup]) -> Iterator[Callable[[], Cgroup]]:
    parent = make(f"{PARENT}-{uuid.uuid4().hex[:8]}")
    parent.create()
    try:
        yield lambda: make(f"{parent.path}/{uuid.uuid4().hex}")
    finally:
        parent.kill()
        parent.delete()


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start processes that are dead and reaped after the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*command: str, **options: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, start_new_session=True, **options)  # type: ignore[call-overload]
        processes.append(process)
        return process  # type: ignore[no-any-return]

    yield start
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait(10)
