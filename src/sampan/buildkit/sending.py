"""A directory of ours for a client, over fsutil's protocol (see `filesync`): what a `local` exporter's result travels by."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.buildkit.protos import fsutil_pb2
from sampan.buildkit.trees import Files
from sampan.engineapi import gomode
from sampan.errors import InvalidParameter, Unavailable
from sampan.linux.path import open_without_links

if TYPE_CHECKING:
    from grpclib.client import Stream

Packet = fsutil_pb2.Packet

_CHUNK = 32 * 1024
_BATCH = 256
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Sent(NamedTuple):
    """A file that the client may ask for."""

    root: int
    path: str


async def send(stream: Stream[Any, Any], files: Sequence[Files], mtime_ns: int | None = None) -> None:
    """Send directories of different names, with one time for all files if there is `mtime_ns`.

    Raises `InvalidParameter` with the client's words, `Unavailable`.
    """
    told: list[_Sent | None] = []
    describing = asyncio.create_task(_describe(stream, files, mtime_ns, told))
    try:
        while (packet := await stream.recv_message()) is not None:
            wanted = told[packet.ID] if len(told) > packet.ID else None
            if packet.type == Packet.PACKET_REQ and wanted is not None:
                await _content(stream, wanted, packet.ID)
            elif packet.type == Packet.PACKET_FIN:
                await describing
                await stream.send_message(Packet(type=Packet.PACKET_FIN))
                return
            else:
                raise InvalidParameter(f"error from receiver: {packet.data.decode(errors='replace')}")
        raise Unavailable("the client ended the transfer of the result")
    finally:
        describing.cancel()
        await asyncio.gather(describing, return_exceptions=True)


async def _describe(
    stream: Stream[Any, Any], files: Sequence[Files], mtime_ns: int | None, told: list[_Sent | None]
) -> None:
    for each in sorted(files, key=lambda each: each.directory.encode()):
        walk = _within(each)
        while batch := await asyncio.to_thread(_next, walk):
            for sent, description in batch:
                has_data = gomode.has_data(description.mode) and not description.linkname
                told.append(sent if has_data else None)
                if mtime_ns is not None:
                    description.modTime = mtime_ns
                await stream.send_message(Packet(type=Packet.PACKET_STAT, stat=description))
    await stream.send_message(Packet(type=Packet.PACKET_STAT))


def _within(files: Files) -> Iterator[tuple[_Sent, fsutil_pb2.Stat]]:
    """The files as the client is to find them, their directory first."""
    if files.directory:
        described = _stat(files.root, ".", files.directory, {})
        yield _Sent(files.root, ""), described
    before = f"{files.directory}/" if files.directory else ""
    for described in _walk(files.root, "", {}):
        sent = _Sent(files.root, described.path)
        described.path = before + described.path
        if described.linkname and gomode.has_data(described.mode):
            described.linkname = before + described.linkname
        yield sent, described


def _next(walk: Iterator[tuple[_Sent, fsutil_pb2.Stat]]) -> list[tuple[_Sent, fsutil_pb2.Stat]]:
    return [described for _, described in zip(range(_BATCH), walk, strict=False)]


def _walk(root: int, path: str, seen: dict[tuple[int, int], str]) -> Iterator[fsutil_pb2.Stat]:
    """Depth first, names in the order of their bytes: the one that a receiver checks."""
    directory = open_without_links(root, path, _OPEN_DIRECTORY)
    try:
        for name in sorted(os.listdir(directory), key=os.fsencode):
            within = f"{path}/{name}" if path else name
            yield _stat(directory, name, within, seen)
            if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                yield from _walk(root, within, seen)
    finally:
        os.close(directory)


def _stat(directory: int, name: str, path: str, seen: dict[tuple[int, int], str]) -> fsutil_pb2.Stat:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    described = fsutil_pb2.Stat(
        path=path,
        mode=gomode.from_kernel(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size if stat.S_ISREG(found.st_mode) else 0,
        modTime=found.st_mtime_ns,
    )
    if stat.S_ISLNK(found.st_mode):
        described.linkname = os.readlink(name, dir_fd=directory)
    elif stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        first = seen.setdefault((found.st_dev, found.st_ino), path)
        described.linkname = "" if first == path else first
    elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        described.devmajor, described.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    return described


async def _content(stream: Stream[Any, Any], sent: _Sent, number: int) -> None:
    file = await asyncio.to_thread(open_without_links, sent.root, sent.path, os.O_RDONLY)
    try:
        while data := await asyncio.to_thread(os.read, file, _CHUNK):
            await stream.send_message(Packet(type=Packet.PACKET_DATA, ID=number, data=data))
        await stream.send_message(Packet(type=Packet.PACKET_DATA, ID=number))
    finally:
        os.close(file)
