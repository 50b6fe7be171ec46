"""Full disks of all kinds, under many verbs (`tests/integration/containers/test_full_disk.py` is the short form)."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from busybox_image import busybox_archive
from engine_audit import assert_settled
from registry_peer import DockerRegistry
from running_engine import RunningEngine
from small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.root

COUNTING = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done"

GROWING = """
docker create --name grown busybox true
docker run --name grown busybox true
docker run --rm busybox true
docker start spare
docker load -i extra.tar
docker import flat.tar grown:1
docker build -t grown:1 context
docker volume create grown
docker cp extra.tar keeper:/root/
docker cp context spare:/
docker commit keeper grown:1
docker pull $(cat registry)/extra:1
"""
"""What needs room, and must say so."""

STEADY = """
docker exec keeper true
docker pause keeper
docker unpause keeper
docker rename spare other
docker rename other spare
docker tag busybox tagged:1
docker network create grown
docker network connect grown keeper
docker network disconnect grown keeper
docker update --cpu-shares 100 keeper
docker logs --tail 1 keeper
docker inspect keeper
docker cp keeper:/etc/passwd -
docker export keeper > /dev/null
docker save busybox > /dev/null
docker stop -t 0 stopped
docker rm stopped ended
docker volume rm kept
docker network rm grown
docker rmi tagged:1
docker container prune -f
docker image prune -f
docker volume prune -af
docker system prune -f
"""
"""What needs none; at the end everything that was to go is gone."""


@contextmanager
def engine_with_disk(
    folder: Path, archive: bytes, kind: str, part: str
) -> Iterator[tuple[RunningEngine, SmallDisk]]:
    """`part` of the engine, "data_root" or "exec_root", lies on the disk."""
    with small_disk(folder, kind=kind) as disk:
        engine = RunningEngine(folder)
        setattr(engine, part, disk.path / part)
        with engine.holding(archive):
            try:
                yield engine, disk
            finally:
                disk.free()  # or it could not be closed


def furnish(engine: RunningEngine, folder: Path, registry: DockerRegistry) -> None:
    """What the verbs want."""
    (folder / "registry").write_text(registry.host)
    (folder / "extra.tar").write_bytes(busybox_archive("extra:1", {"etc/extra": os.urandom(1 << 18)}))
    (folder / "context").mkdir()
    (folder / "context" / "Dockerfile").write_text("FROM busybox\nCOPY large /\n")
    (folder / "context" / "large").write_bytes(os.urandom(1 << 18))
    done = engine.shell(
        f"""set -e
        tar cf flat.tar context
        docker volume create kept
        docker run -d --name keeper -v kept2:/kept busybox sh -c '{COUNTING}'
        docker run -d --name stopped busybox sleep 1000
        docker run --name ended busybox true
        docker create --name spare busybox true
        docker load -i extra.tar
        docker tag extra:1 $(cat registry)/extra:1
        docker push $(cat registry)/extra:1
        docker rmi extra:1 $(cat registry)/extra:1
        """,
        folder,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shortage", ["blocks", "inodes"])
@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
@pytest.mark.timeout(180)
def test_data_root(
    kind: str, shortage: str, tmp_path: Path, busybox: bytes, docker_registry: DockerRegistry
) -> None:
    with engine_with_disk(tmp_path, busybox, kind, "data_root") as (engine, disk):
        furnish(engine, tmp_path, docker_registry)
        disk.fill() if shortage == "blocks" else disk.fill_names()
        for verb in GROWING.strip().splitlines():
            if (kind, shortage, verb) == ("tmpfs", "blocks", "docker volume create grown"):
                continue  # a directory has no blocks there
            disk.fill() if shortage == "blocks" else None
            done = engine.shell(verb, tmp_path)
            assert done.returncode and "no space left on device" in (done.stderr + done.stdout), (verb, done)
        for verb in STEADY.strip().splitlines():
            done = engine.shell(verb, tmp_path)
            assert done.returncode == 0, (verb, done.stderr)
        assert_settled(engine)
        engine.kill()
        disk.fill() if shortage == "blocks" else None
        engine.start()
        assert engine.docker("ps", "--format", "{{.Names}}").stdout == "keeper\n"
        assert_settled(engine)
        disk.free()
        assert engine.docker("run", "--rm", "busybox", "echo", "well").stdout == "well\n"
        assert (
            engine.shell("docker load -i extra.tar && docker build -t made:1 context", tmp_path).returncode
            == 0
        )
        numbers = [int(line) for line in engine.docker("logs", "keeper").stdout.split()]
        assert numbers == sorted(set(numbers))
        engine.docker("rm", "-f", "keeper")
        assert engine.shell("docker rmi made:1 extra:1", tmp_path).returncode == 0
        assert_settled(engine)


@pytest.mark.parametrize("shortage", ["blocks", "inodes"])
@pytest.mark.timeout(180)
def test_exec_root(shortage: str, tmp_path: Path, busybox: bytes) -> None:
    with engine_with_disk(tmp_path, busybox, "tmpfs", "exec_root") as (engine, disk):
        for name, code in (("first", 7), ("second", 8)):
            command = f"trap 'exit {code}' TERM; while :; do sleep 0.1; done"
            engine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", command)
        pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "second").stdout)
        disk.fill() if shortage == "blocks" else disk.fill_names()
        done = engine.docker("run", "--name", "third", "busybox", "true", check=False)
        assert done.returncode == 125 and "no space left on device" in done.stderr, done.stderr
        assert engine.docker("exec", "first", "echo", "well").stdout == "well\n"
        engine.docker("stop", "first")
        assert engine.docker("wait", "first").stdout == "7\n"
        engine.kill()
        os.kill(pid, 15)
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
        engine.start()
        assert engine.docker("wait", "second").stdout == "8\n"
        engine.docker("rm", "first", "second")
        assert_settled(engine)
        disk.free()
        engine.docker("start", "third")
        assert engine.docker("wait", "third").stdout == "0\n"


@pytest.mark.timeout(180)
def test_where_nothing_can_be_reserved(
    tmp_path: Path, busybox: bytes, docker_registry: DockerRegistry
) -> None:
    """ext2 has no fallocate(2): rows cannot be written either; what happens goes on, and is stored afterwards."""
    with engine_with_disk(tmp_path, busybox, "ext2", "data_root") as (engine, disk):
        furnish(engine, tmp_path, docker_registry)
        disk.fill()
        for verb in (
            *GROWING.strip().splitlines(),
            "docker network create grown",
            "docker rm ended",
            "docker pause keeper",
        ):
            done = engine.shell(verb, tmp_path)
            assert done.returncode and "no space left on device" in (done.stderr + done.stdout), (verb, done)
        assert engine.docker("inspect", "-f", "{{.State.Status}}", "keeper").stdout == "running\n"
        engine.docker("stop", "-t", "0", "stopped")
        assert engine.docker("wait", "stopped").stdout == "137\n"
        disk.free()
        engine.docker("tag", "busybox", "tagged:1")
        wait_until(lambda: _stored(engine, "stopped") == "exited")
        engine.kill()
        engine.start()
        assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", "stopped").stdout == "137\n"
        assert engine.docker("run", "--rm", "busybox", "echo", "well").stdout == "well\n"
        assert_settled(engine)


def _stored(engine: RunningEngine, name: str) -> str:
    cx = sqlite3.connect(f"file:{engine.data_root}/sampan.db?mode=ro", uri=True)
    try:
        ((state,),) = cx.execute("select state from container where name = ?", (name,)).fetchall()
        return str(json.loads(state)["status"])
    finally:
        cx.close()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
