"""A full disk under an engine: errors in the system's words, nothing lost, nothing half done, and a way out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sampan
from busybox_image import busybox_archive
from engine_audit import assert_settled
from running_engine import RunningEngine
from sampan.errors import SystemFailure
from small_disk import SmallDisk

pytestmark = pytest.mark.root

COUNTING = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done"


@pytest.fixture
def engine(disk: SmallDisk, tmp_path: Path, busybox: bytes) -> Iterator[RunningEngine]:
    """Its data root, and nothing else of it, on the small disk."""
    running = RunningEngine(tmp_path)
    running.data_root = disk.path / "data"
    with running.holding(busybox):
        try:
            yield running
        finally:
            disk.free()  # or it could not be closed


def test_errors_and_a_way_out(engine: RunningEngine, disk: SmallDisk) -> None:
    extra = busybox_archive("extra:1", {"etc/extra": os.urandom(1 << 18)})
    with engine.client() as client:
        keeper = client.run("busybox", ["sh", "-c", COUNTING], detach=True, name="keeper")
        client.run("busybox", ["sleep", "1000"], detach=True, name="stopped")
        client.containers.create("busybox", ["true"], name="spare")
        client.volumes.create("kept")
        disk.fill()

        for verb in growing_verbs(client, extra):
            with pytest.raises(SystemFailure, match="no space left on device"):
                verb()
        done = engine.docker("commit", "keeper", "made", check=False)
        assert "no space left on device" in done.stderr

        assert keeper.exec(["echo", "well"]).check().output == "well\n"
        assert keeper.inspect()["State"]["Status"] == "running"
        client.containers.get("stopped").stop(timeout=0)
        assert client.containers.get("stopped").inspect()["State"]["ExitCode"] == 137
        client.containers.get("stopped").remove()
        client.containers.get("spare").remove()
        client.volumes.remove("kept")
        assert_settled(engine)

        disk.free()
        assert client.run("busybox", ["echo", "again"]).check().output == "again\n"
        client.images.load(extra)
        engine.docker("commit", "keeper", "made")
        client.images.remove("made")
        client.images.remove("extra:1")
        assert_whole_lines(keeper.logs())
    assert_settled(engine)


def growing_verbs(client: sampan.Engine, archive: bytes) -> list[Callable[[], object]]:
    return [
        lambda: client.containers.create("busybox", ["true"], name="grown"),
        lambda: client.run("busybox", ["true"], name="grown"),
        lambda: client.containers.get("spare").start(),
        lambda: client.images.load(archive),
        lambda: client.volumes.create("grown"),
        lambda: client.containers.get("keeper").write_file("/grown", bytes(1 << 20)),
    ]


def assert_whole_lines(log: bytes) -> None:
    """Lines may be missing, but each that is there is whole, and in its place."""
    numbers = [int(line) for line in log.split()]
    assert numbers == sorted(set(numbers))


def test_a_start_on_a_full_disk(engine: RunningEngine, disk: SmallDisk) -> None:
    engine.docker("run", "-d", "--name", "keeper", "busybox", "sleep", "1000")
    disk.fill()
    engine.kill()
    engine.start()
    assert engine.docker("ps", "--format", "{{.Names}} {{.State}}").stdout == "keeper running\n"
    engine.docker("rm", "-f", "keeper")
    engine.stop()
    engine.start()
    assert engine.docker("images", "-q").stdout
    assert_settled(engine)
