"""Tar streams between a host's files and a container's."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.client.http import Response

BLOCK = 1 << 18


def pack_file(name: str, data: bytes, mode: int) -> bytes:
    """A tar with one regular file, owned by root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), mode
        tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


class _Collector(io.RawIOBase):
    """Takes what tarfile writes, gives it out in between."""

    def __init__(self) -> None:
        self.pending = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray) -> int:  # type: ignore[override]
        self.pending += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self.pending)
        self.pending.clear()
        return data


def pack_tree(source: str | os.PathLike[str], name: str | None = None) -> Iterator[bytes]:
    """A file or directory as a tar, streamed; its top entry is called `name` (default: its own name).

    Raises FileNotFoundError before anything is produced.
    """
    os.lstat(source)
    path = os.fspath(source)
    return _pack(path, name or os.path.basename(os.path.abspath(path)))


def _pack(path: str, name: str) -> Iterator[bytes]:
    sink = _Collector()
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for file, arcname in _walk(path, name):
            member = tar.gettarinfo(file, arcname)
            if member is None:  # a socket: nothing that an archive can hold
                continue
            if member.isreg():
                with open(file, "rb") as content:
                    tar.addfile(member, content)
            else:
                tar.addfile(member)
            if len(sink.pending) >= BLOCK:
                yield sink.take()
    yield sink.take()


def _walk(path: str, name: str) -> Iterator[tuple[str, str]]:
    yield path, name
    if os.path.isdir(path) and not os.path.islink(path):
        for entry in sorted(os.listdir(path)):
            yield from _walk(os.path.join(path, entry), f"{name}/{entry}")


class ResponseFile(io.RawIOBase):
    """A response's body as a file to read."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._pending:
            self._pending = self._response.read_block()
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size


def read_only_file(response: Response, path: str) -> bytes:
    """The content of an archive's single regular file. Raises InvalidParameter when it holds anything else."""
    with tarfile.open(fileobj=io.BufferedReader(ResponseFile(response)), mode="r|") as tar:
        member = tar.next()
        content = tar.extractfile(member) if member is not None and member.isreg() else None
        if content is None:
            response.close()
            raise InvalidParameter(f"{path} is not a regular file")
        data = content.read()
    response.read()
    return data


def unpack(response: Response, target: str | os.PathLike[str], rename: tuple[str, str] | None = None) -> None:
    """Extract an engine's archive into a directory; `rename` (from, to) renames its top entry.

    What a container sends is hostile: nothing may be written outside of `target`, whether by `..`, an absolute name or
    through a link that the archive made before (tarfile's data filter refuses all three, and devices).
    """
    with tarfile.open(fileobj=io.BufferedReader(ResponseFile(response)), mode="r|") as tar:
        for member in tar:
            if rename is not None:
                member = _renamed(member, *rename)
            tar.extract(member, os.fspath(target), filter="tar" if _trusted(member) else "data")
    response.read()


def _trusted(member: tarfile.TarInfo) -> bool:
    """A regular file or directory: it keeps its mode bits; links get the stricter filter."""
    return member.isreg() or member.isdir()


def _renamed(member: tarfile.TarInfo, old: str, new: str) -> tarfile.TarInfo:
    for attribute in ("name", "linkname") if member.islnk() else ("name",):
        value = getattr(member, attribute)
        if value == old or value.startswith(old + "/"):
            member = member.replace(**{attribute: new + value[len(old) :]}, deep=False)
    return member
