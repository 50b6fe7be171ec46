"""Volumes with mount options, and copy-up, on the real kernel."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import SystemFailure
from sampan.events import EventBus
from sampan.linux import mount as mnt
from sampan.store import Database
from sampan.volumes.copyup import copy_up, finish_copy
from sampan.volumes.records import VOLUMES_SCHEMA
from sampan.volumes.service import VolumeService

pytestmark = pytest.mark.root


class NoJobs:
    async def run(self, target: str, args: dict[str, Any], fds: object = ()) -> Any:
        return None


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[Callable[[VolumeService], Awaitable[None]]], None]]:
    """Run a scenario on a volume service in tmp_path; whatever it left mounted is unmounted."""

    def runner(scenario: Callable[[VolumeService], Awaitable[None]]) -> None:
        async def main() -> None:
            database = await Database.open(tmp_path / "db", [VOLUMES_SCHEMA])
            service = await VolumeService.open(database, tmp_path / "volumes", EventBus(), NoJobs())
            try:
                await scenario(service)
            finally:
                await service.close()
                await database.close()

        asyncio.run(main())

    yield runner
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if (place := line.split()[4]).startswith(str(tmp_path)):
            mnt.umount(place, mnt.MNT_DETACH)


def test_mounted_for_the_first_and_unmounted_after_the_last(run: Callable[..., None]) -> None:
    async def scenario(service: VolumeService) -> None:
        await service.create("ram", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,noexec"})
        path = await service.mount("ram", "c1")
        assert os.path.ismount(path) and os.statvfs(path).f_flag & os.ST_NOEXEC
        Path(path, "file").write_text("x")
        assert await service.mount("ram", "c2") == path
        await service.unmount("ram", "c1")
        await service.unmount("ram", "c1")
        assert Path(path, "file").exists()
        await service.unmount("ram", "c2")
        assert not os.path.ismount(path)

    run(scenario)


def test_bind_read_only(run: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("hello")

    async def scenario(service: VolumeService) -> None:
        source = str(tmp_path / "source")
        await service.create("bound", options={"type": "none", "device": source, "o": "bind,ro"})
        path = Path(await service.mount("bound", "c1"))
        assert (path / "file").read_text() == "hello"
        with pytest.raises(OSError, match="Read-only"):
            (path / "other").write_text("")
        await service.release("c1")
        assert not os.path.ismount(path)

    run(scenario)


def test_failures_say_what_was_tried_without_the_password(run: Callable[..., None]) -> None:
    async def scenario(service: VolumeService) -> None:
        await service.create(
            "bad", options={"type": "none", "device": "/nonexistent", "o": "bind,password=secret"}
        )
        with pytest.raises(SystemFailure) as failure:
            await service.mount("bad", "c1")
        message = str(failure.value)
        assert ": failed to mount local volume: mount /nonexistent:" in message
        assert message.endswith("flags: 0x1000, data: password=********: no such file or directory")
        await service.remove("bad")

    run(scenario)


def test_mounts_of_a_former_engine_are_undone_unless_used(run: Callable[..., None], tmp_path: Path) -> None:
    async def first(service: VolumeService) -> None:
        for name in ("kept", "stale"):
            await service.create(name, options={"type": "tmpfs", "device": "tmpfs"})
            await service.mount(name, "c1")

    async def second(service: VolumeService) -> None:
        await service.recover({"c1": ["kept"]}, {"c1": ["kept"]})
        assert os.path.ismount(tmp_path / "volumes/kept/_data")
        assert not os.path.ismount(tmp_path / "volumes/stale/_data")
        await service.mount("kept", "c2")
        await service.unmount("kept", "c2")
        assert os.path.ismount(tmp_path / "volumes/kept/_data")
        await service.unmount("kept", "c1")
        assert not os.path.ismount(tmp_path / "volumes/kept/_data")

    run(first)
    run(second)


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[tuple[Path, Path, Callable[[], bool]]]:
    """A source, an empty volume, and the copy from one to the other."""
    source, volume = tmp_path / "source", tmp_path / "volume"
    source.mkdir()
    volume.mkdir()
    descriptors = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in (source, volume)]
    yield source, volume, lambda: copy_up(*descriptors)
    for descriptor in descriptors:
        os.close(descriptor)


Trees = tuple[Path, Path, Callable[[], bool]]


def test_copy_up_keeps_everything(trees: Trees) -> None:
    source, volume, copy = trees
    (source / "dir").mkdir(mode=0o1777)
    (source / "dir").chmod(0o1777)
    file = source / "dir" / "file"
    file.write_bytes(b"data" * 1000)
    os.chown(file, 1234, 5678)
    file.chmod(0o4755)
    os.setxattr(file, "user.note", b"1")
    os.setxattr(file, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    (source / "hard").hardlink_to(file)
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "fifo", 0o640)
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (source / "null").chmod(0o666)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
    with (source / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 30)
        sparse.seek(1 << 29)
        sparse.write(b"middle")
    os.utime(file, ns=(1_000_000_001, 2_000_000_003))
    os.utime(source / "dir", ns=(1, 3))
    os.chown(source, 42, 43)
    source.chmod(0o2750)
    assert copy()
    assert describe(volume) == describe(source)
    assert (volume / "hard").stat().st_ino == (volume / "dir" / "file").stat().st_ino
    assert (volume / "sparse").stat().st_blocks < 100
    with (volume / "sparse").open("rb") as sparse:
        sparse.seek(1 << 29)
        assert sparse.read(7) == b"middle\0"


def describe(root: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        attributes = {} if path.is_symlink() else {n: os.getxattr(path, n) for n in os.listxattr(path)}
        found[str(path.relative_to(root))] = (
            status.st_mode, status.st_uid, status.st_gid, status.st_rdev,
            0 if stat.S_ISDIR(status.st_mode) else status.st_size, status.st_mtime_ns,
            os.readlink(path) if path.is_symlink() else attributes,
        )  # fmt: skip
    return found


def test_copy_up_into_a_volume_with_content_does_nothing(trees: Trees) -> None:
    source, volume, copy = trees
    (source / "new").write_text("")
    (volume / "old").write_text("")
    source.chmod(0o700)
    assert not copy()
    assert os.listdir(volume) == ["old"]


def test_a_failed_copy_leaves_an_empty_volume(trees: Trees, tmp_path: Path) -> None:
    source, volume, _ = trees
    (source / "dir").mkdir()
    (source / "dir" / "small").write_text("x")
    (source / "large").write_bytes(b"x" * (4 << 20))
    mnt.mount("tmpfs", str(volume), "tmpfs", 0, "size=1m")
    try:
        descriptors = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in (source, volume)]
        with pytest.raises(OSError, match="No space left"):
            copy_up(*descriptors)
        assert os.listdir(volume) == []
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        mnt.umount(str(volume), mnt.MNT_DETACH)


_KILLED_COPY = """
import os, signal, sys
from sampan.volumes import copyup

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3] == "growing":
    copyup._copy_metadata = die  # at the first file's end
else:
    copyup._move_up = die
copyup.copy_up(*(os.open(path, os.O_PATH | os.O_DIRECTORY) for path in sys.argv[1:3]))
"""


@pytest.mark.parametrize("moment", ["growing", "complete"])
def test_a_copy_whose_worker_was_killed_is_never_taken_for_content(trees: Trees, moment: str) -> None:
    source, volume, copy = trees
    (source / "dir").mkdir()
    (source / "dir" / "file").write_text("x")
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_COPY, str(source), str(volume), moment], check=False
    )
    assert killed.returncode == -signal.SIGKILL and os.listdir(volume)
    finish_copy(str(volume))
    if moment == "growing":
        assert os.listdir(volume) == []
        assert copy()
    assert describe(volume) == describe(source)
    (volume / "mine").write_text("")
    finish_copy(str(volume))
    assert not copy()
