"""Builds that take more than there is, or never end: they fail or are left, and nothing of them stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_audit import assert_settled
from graph_builder import Building, build, in_image
from running_engine import RunningEngine
from small_disk import SmallDisk

pytestmark = pytest.mark.root


@pytest.fixture
def cramped(disk: SmallDisk, tmp_path: Path, busybox: bytes) -> Iterator[RunningEngine]:
    """An engine whose data root is on the small disk."""
    running = RunningEngine(tmp_path)
    running.data_root = disk.path / "data"
    with running.holding(busybox):
        yield running


def used(disk: SmallDisk) -> int:
    status = os.statvfs(disk.path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def test_a_build_that_eats_the_disk(cramped: RunningEngine, disk: SmallDisk) -> None:
    build(cramped, "FROM busybox\nRUN true\n")
    before = used(disk)
    failed = build(
        cramped, "FROM busybox\nRUN echo fits > /a\nRUN cat /dev/zero > /big\n", fails=True, t=["big"]
    )
    assert "exit code: 1" in failed.error and "No space left on device" in failed.output
    deadline = time.monotonic() + 20
    while used(disk) > before + (4 << 20):
        assert time.monotonic() < deadline, "what the step had written is still there"
        time.sleep(0.05)
    build(cramped, "FROM busybox\nRUN echo fits > /a\nRUN cat /a > /b\n")
    assert in_image(cramped, "cat /b") == ["fits"]
    assert_settled(cramped)


def test_equal_steps_of_two_builds_run_once(engine: RunningEngine) -> None:
    """The step ends when both builds have its output: a file in its cache mount says so, which we make."""
    waiting = "echo 1 > /c/began && echo begun && until [ -e /c/go ]; do sleep 0.05; done"
    dockerfile = f"FROM busybox\nRUN --mount=type=cache,id=both,target=/c {waiting}; head -c 16 /dev/urandom > /random\n"
    builds = [Building(engine, dockerfile, t=[name]) for name in ("one", "two")]
    for each in builds:
        each.wait(lambda event: event["kind"] == "log" and event["data"] == "begun\n")
    kept = engine.data_root / "solver" / "kept"
    (place,) = {Path(top) for top, _, files in os.walk(kept) if "began" in files}
    (place / "go").touch()
    for each in builds:
        each.join()
    one, two = (in_image(engine, "md5sum /random", name) for name in ("one", "two"))
    assert one == two


def test_a_build_that_never_ends_leaves_nothing(cramped: RunningEngine, disk: SmallDisk) -> None:
    """Its client goes while a step writes on and on."""
    build(cramped, "FROM busybox\nRUN true\n")
    before = used(disk)
    writing = "i=0; while :; do head -c 1000000 /dev/zero > /f$((i % 20)); i=$((i+1)); echo $i; done"
    command = [sys.executable, "-m", "sampan.cli", "-H", cramped.host, "build", "--progress=plain", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None and client.stderr is not None
        client.stdin.write(f"FROM busybox\nRUN {writing}\n")
        client.stdin.close()
        while not (line := client.stderr.readline()).endswith(" 20\n"):
            assert line, "the build ended"
        client.kill()
    deadline = time.monotonic() + 20
    while used(disk) > before + (4 << 20) or any((cramped.exec_root / "builds").iterdir()):
        assert time.monotonic() < deadline, "something of it is still there"
        time.sleep(0.05)
    assert_settled(cramped)


def test_room_is_made(cramped: RunningEngine, disk: SmallDisk) -> None:
    """`--min-free-space`: what was used longest ago goes, until so much is free."""
    for number in range(4):
        step = f"RUN head -c 4000000 /dev/urandom > /f{number}"
        build(
            cramped,
            f"FROM busybox AS a\n{step}\nFROM busybox\nRUN --mount=from=a,target=/a true # {number}\n",
        )
    status = os.statvfs(disk.path)
    free = status.f_bavail * status.f_frsize
    cramped.sampan("builder", "prune", "-af", "--min-free-space", str(free + 6_000_000))
    status = os.statvfs(disk.path)
    assert status.f_bavail * status.f_frsize >= free + 6_000_000
    with cramped.client() as client:
        left = [each["Description"] for each in client.api.request("GET", "/system/df").json()["BuildCache"]]
    assert any("/f3" in each for each in left) and not any("/f0" in each or "/f1" in each for each in left)
