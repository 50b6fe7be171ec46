"""A directory over fsutil's protocol: exactly what was sent, only what changed, and nothing outside, whatever a client says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framed_stream import Framed
from sampan.buildkit.filesync import receive
from sampan.buildkit.protos import fsutil_pb2
from sampan.buildkit.sending import send
from sampan.buildkit.trees import Files
from sampan.engineapi import gomode
from sampan.errors import InvalidParameter, SampanError, SystemFailure, Unavailable

Packet = fsutil_pb2.Packet
DIRECTORY, LINK, FIFO, REGULAR = 1 << 31, 1 << 27, 1 << 25, 0


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


class Pipe:
    """One end of a conversation in memory."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[Packet | None] = asyncio.Queue(64)
        self.other: Pipe | None = None
        self.sent: list[Packet] = []

    async def send_message(self, packet: Packet) -> None:
        assert self.other is not None
        self.sent.append(packet)
        await self.other.incoming.put(Packet.FromString(packet.SerializeToString()))

    async def recv_message(self) -> Packet | None:
        return await self.incoming.get()


def pipes() -> tuple[Any, Any]:
    ours, theirs = Pipe(), Pipe()
    ours.other, theirs.other = theirs, ours
    return ours, theirs


def transfer(source: Path, target: Path, *, compare: bool = True) -> list[str]:
    """Send one directory to the other; the paths whose contents travelled."""

    async def run() -> list[str]:
        ours, theirs = pipes()
        with opened(source) as root:
            receiving = receive(Framed(ours), target, lambda *_: None, compare=compare)
            await asyncio.wait_for(asyncio.gather(receiving, send(theirs, [Files("", root)])), 20)
        described = [packet.stat.path for packet in theirs.sent if packet.type == Packet.PACKET_STAT]
        return [described[packet.ID] for packet in ours.sent if packet.type == Packet.PACKET_REQ]

    return asyncio.run(run())


def tree(root: Path) -> dict[str, Any]:
    """Everything that a build could tell apart."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content: Any = (
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        )
        same = status.st_ino if stat.S_ISREG(status.st_mode) and status.st_nlink > 1 else 0
        found[str(path.relative_to(root))] = (status.st_mode, status.st_mtime_ns, content, bool(same))
    return found


def say(target: Path, packets: Iterable[Packet], sent: deque[Packet] | None = None) -> None:
    """Receive what a client says, whatever is answered."""

    async def run() -> None:
        ours, theirs = pipes()

        async def talk() -> None:
            for packet in packets:
                await theirs.send_message(packet)
            await ours.incoming.put(None)

        async def listen() -> None:
            while True:
                packet = await theirs.recv_message()
                if sent is not None:
                    sent.append(packet)

        others = [asyncio.create_task(talk()), asyncio.create_task(listen())]
        try:
            await asyncio.wait_for(receive(Framed(ours), target, lambda *_: None), 20)
        finally:
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    asyncio.run(run())


def entry(path: str, mode: int = 0o644, link: str = "", size: int = 0, **more: Any) -> Packet:
    return Packet(
        type=Packet.PACKET_STAT,
        stat=fsutil_pb2.Stat(
            path=path, mode=mode, linkname=link, size=size, uid=os.getuid(), gid=os.getgid(), **more
        ),
    )


LAST = Packet(type=Packet.PACKET_STAT)
FIN = Packet(type=Packet.PACKET_FIN)


def data(number: int, content: bytes = b"") -> Packet:
    return Packet(type=Packet.PACKET_DATA, ID=number, data=content)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "b" / "deep").mkdir(parents=True)
    (root / "a").write_bytes(b"alpha")
    (root / "b" / "deep" / "big").write_bytes(random.Random(1).randbytes(300_000))
    (root / "b" / "empty").touch(0o755)
    (root / "b-c").write_bytes(b"sorts before b/ as text, after it as a path")
    (root / "link").symlink_to("/etc/passwd")
    os.link(root / "a", root / "z-same")
    os.mkfifo(root / "pipe", 0o640)
    os.utime(root / "b", ns=(5, 1_234_567_891_234_567_891))
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    root = tmp_path / "target"
    root.mkdir()
    return root


def test_a_directory_arrives_as_it_is(source: Path, target: Path) -> None:
    asked = transfer(source, target)
    assert tree(target) == tree(source)
    assert sorted(asked) == ["a", "b-c", "b/deep/big", "b/empty"]


def test_what_is_there_already_does_not_travel_again(source: Path, target: Path) -> None:
    (source / "z-same").unlink()
    transfer(source, target)
    assert transfer(source, target) == []
    (source / "a").write_bytes(b"ALPHA")
    assert transfer(source, target) == ["a"]
    assert tree(target) == tree(source)


def test_nothing_is_taken_for_granted_when_told_so(source: Path, target: Path) -> None:
    transfer(source, target)
    assert len(transfer(source, target, compare=False)) == 4
    assert tree(target) == tree(source)


def test_what_was_not_sent_goes_and_kinds_change(source: Path, target: Path) -> None:
    transfer(source, target)
    for path, make in {
        "a": lambda path: path.mkdir(),
        "link": lambda path: path.write_bytes(b"a file now"),
        "pipe": lambda path: path.symlink_to("a"),
    }.items():
        (source / path).unlink()
        make(source / path)
    (source / "b" / "deep" / "big").unlink()
    (source / "b" / "deep").rmdir()
    (source / "b" / "deep").symlink_to("..")
    (source / "z-same").unlink()
    transfer(source, target)
    assert tree(target) == tree(source)
    assert (target / "a").is_dir()


def test_a_broken_transfer_is_made_good_by_the_next(source: Path, target: Path) -> None:
    with pytest.raises(Unavailable):
        say(target, [entry("a", size=5), LAST, data(0, b"al")])
    assert transfer(source, target) != []
    assert tree(target) == tree(source)


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../x", "/x", "a/../../x", "a//x", "a/.", "x\0y", "x" * 256, "/".join(["d" * 200] * 30)],
)
def test_paths_that_are_none_are_refused(target: Path, path: str) -> None:
    with pytest.raises(InvalidParameter):
        say(target, [entry("a", DIRECTORY | 0o755), entry(path, DIRECTORY | 0o755)])
    assert sorted(each.name for each in target.parent.iterdir()) == ["target"]


@pytest.mark.parametrize(
    "packets",
    [
        # through a symbolic link that the client sent before
        [entry("a", LINK | 0o777, "../outside"), entry("a/file", size=1)],
        [entry("a", LINK | 0o777, "../outside"), entry("a/d", DIRECTORY | 0o755)],
        # through one in a directory that is over
        [
            entry("d", DIRECTORY | 0o755),
            entry("d/a", LINK | 0o777, "../../outside"),
            entry("e"),
            entry("d/a/x"),
        ],
        # a directory twice, a link in its place
        [entry("a", DIRECTORY | 0o755), entry("b"), entry("a", LINK | 0o777, "../outside"), entry("a/x")],
        # a hard link to what is outside, or did not come, or is a link
        [entry("a", REGULAR | 0o644, "../outside/secret")],
        [entry("a", REGULAR | 0o644, "/../outside/secret")],
        [entry("l", LINK | 0o777, "../outside/secret"), entry("m", REGULAR | 0o644, "l")],
        # no parent, no order
        [entry("a/b")],
        [entry("a"), entry("a/b")],
        [entry("a"), entry("a")],
        # contents that nobody asked for
        [data(0, b"x")],
        [entry("d", DIRECTORY | 0o755), data(0, b"x")],
        [entry("a", size=1), LAST, data(0, b"x"), data(0), data(0, b"more")],
        # the protocol itself
        [FIN],
        [LAST, LAST],
        [LAST, entry("late")],
        [Packet(type=Packet.PACKET_REQ, ID=0)],
        [Packet(type=Packet.PACKET_ERR, data=b"no such file")],
        [entry("odd", 1 << 19)],
    ],
)
def test_a_client_that_cheats_reaches_nothing(target: Path, packets: list[Packet]) -> None:
    outside = target.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    with pytest.raises(InvalidParameter):
        say(target, packets)
    assert [each.name for each in outside.iterdir()] == ["secret"]
    assert (outside / "secret").stat().st_nlink == 1


def test_a_link_left_by_an_earlier_transfer_is_not_followed(target: Path) -> None:
    outside = target.parent / "outside"
    outside.mkdir()
    (target / "a").symlink_to(outside)
    (target / "f").symlink_to(outside / "new")
    with contextlib.suppress(Unavailable):
        say(
            target,
            [
                entry("a", DIRECTORY | 0o755),
                entry("a/x", size=1),
                entry("f", size=1),
                LAST,
                data(1, b"x"),
                data(1),
                data(2, b"y"),
                data(2),
            ],
        )
    assert list(outside.iterdir()) == []
    assert (target / "a" / "x").read_bytes() == b"x"
    assert (target / "f").read_bytes() == b"y"


def test_the_client_is_told_why(target: Path) -> None:
    answers: deque[Packet] = deque()
    with pytest.raises(InvalidParameter):
        say(target, [entry("../x")], answers)
    assert answers[-1].type == Packet.PACKET_ERR and b"'../x'" in answers[-1].data


def test_a_place_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="No such file"):
        say(tmp_path / "missing", [])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 0o7777),
    st.sampled_from(
        [stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK]
    ),
)
def test_modes_survive_both_ways(bits: int, kind: int) -> None:
    assert gomode.to_kernel(gomode.from_kernel(kind | bits)) == kind | bits


NAMES = st.sampled_from(["a", "b", "a-b", "c", "..", "", "a/b", "a/b/c", "../outside", "/x", "d", "d/e"])
PACKETS = st.lists(
    st.one_of(
        st.builds(
            entry,
            NAMES,
            st.sampled_from([0o644, DIRECTORY | 0o755, LINK | 0o777, FIFO | 0o600, 1 << 24, 0o4755]),
            st.sampled_from(["", "a", "../outside", "/etc", "a/b", ".."]),
            st.integers(0, 3),
        ),
        st.builds(data, st.integers(0, 4), st.sampled_from([b"", b"x"])),
        st.sampled_from([LAST, FIN, Packet(type=Packet.PACKET_ERR)]),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(PACKETS)
def test_no_sequence_of_packets_leaves_the_directory(
    tmp_path_factory: pytest.TempPathFactory, packets: list[Packet]
) -> None:
    root = tmp_path_factory.mktemp("cheat")
    outside, target = root / "outside", root / "target"
    outside.mkdir()
    target.mkdir()
    with contextlib.suppress(SampanError):
        say(target, packets)
    assert list(outside.iterdir()) == []
    assert sorted(each.name for each in root.iterdir()) == ["outside", "target"]


def test_whether_anything_changed_is_told(tmp_path: Path) -> None:
    """Files of several names are made anew each time, which is a change; here are none."""
    source, target = tmp_path / "files", tmp_path / "target"
    (source / "b").mkdir(parents=True)
    (source / "a").write_bytes(b"alpha")
    (source / "b" / "link").symlink_to("../a")
    target.mkdir()

    async def run() -> bool:
        ours, theirs = pipes()
        with opened(source) as root:
            receiving = receive(Framed(ours), target, lambda *_: None)
            changed, _ = await asyncio.wait_for(
                asyncio.gather(receiving, send(theirs, [Files("", root)])), 20
            )
        return changed

    def left() -> tuple[bool, bool]:
        return asyncio.run(run()), asyncio.run(run())

    assert left() == (True, False)
    for change in (
        lambda: (source / "a").write_bytes(b"other"),
        lambda: (source / "a").unlink(),
        lambda: (source / "b").chmod(0o700),
        lambda: (source / "new").symlink_to("b"),
        lambda: (source / "b" / "link").unlink(),
    ):
        change()
        assert left() == (True, False)
