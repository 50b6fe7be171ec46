"""A directory of ours for a client, over fsutil's protocol (see `filesync`): what a `local` exporter's result travels by."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sampan.buildkit.protos import fsutil_pb2
from sampan.engineapi import gomode
from sampan.errors import InvalidParameter, Unavailable
from sampan.linux.path import open_without_links

if TYPE_CHECKING:
    from grpclib.client import Stream

Packet = fsutil_pb2.Packet

_CHUNK = 32 * 1024
_BATCH = 256
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


async def send(stream: Stream[Any, Any], root: int) -> None:
    """Send everything beneath a directory (a borrowed descriptor). Raises `InvalidParameter` with the client's words,
    `Unavailable`."""
    files: list[str] = []
    describing = asyncio.create_task(_describe(stream, root, files))
    try:
        while (packet := await stream.recv_message()) is not None:
            if packet.type == Packet.PACKET_REQ and len(files) > packet.ID and files[packet.ID]:
                await _content(stream, root, files[packet.ID], packet.ID)
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


async def _describe(stream: Stream[Any, Any], root: int, files: list[str]) -> None:
    walk = _walk(root, "", {})
    while batch := await asyncio.to_thread(_next, walk):
        for description in batch:
            files.append(
                description.path if gomode.has_data(description.mode) and not description.linkname else ""
            )
            await stream.send_message(Packet(type=Packet.PACKET_STAT, stat=description))
    await stream.send_message(Packet(type=Packet.PACKET_STAT))


def _next(walk: Iterator[fsutil_pb2.Stat]) -> list[fsutil_pb2.Stat]:
    return [description for description, _ in zip(walk, range(_BATCH), strict=False)]


def _walk(root: int, path: str, seen: dict[tuple[int, int], str]) -> Iterator[fsutil_pb2.Stat]:
    """Depth first, names in the order of their bytes: the one that a receiver checks."""
    directory = open_without_links(root, path, _OPEN_DIRECTORY)
    try:
        for name in sorted(os.listdir(directory), key=os.fsencode):
            described = _stat(directory, name, f"{path}/{name}" if path else name, seen)
            yield described
            if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                yield from _walk(root, described.path, seen)
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


async def _content(stream: Stream[Any, Any], root: int, path: str, number: int) -> None:
    file = await asyncio.to_thread(open_without_links, root, path, os.O_RDONLY)
    try:
        while data := await asyncio.to_thread(os.read, file, _CHUNK):
            await stream.send_message(Packet(type=Packet.PACKET_DATA, ID=number, data=data))
        await stream.send_message(Packet(type=Packet.PACKET_DATA, ID=number))
    finally:
        os.close(file)
