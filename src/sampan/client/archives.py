"""Tar streams between a host's files and a container's."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING, Protocol

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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
    return pack_files(_walk(path, name or os.path.basename(os.path.abspath(path))))


def pack_files(
    files: Iterable[tuple[str, str]], change: Callable[[tarfile.TarInfo], None] | None = None
) -> Iterator[bytes]:
    """Files, each with its name in the archive, as a tar, streamed; directories without what is in them.

    `change` may edit an entry before it is written.
    """
    sink = _Collector()
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for file, arcname in files:
            member = tar.gettarinfo(file, arcname)
            if member is None:  # a socket: nothing that an archive can hold
                continue
            if change is not None:
                change(member)
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


class Blocks(Protocol):
    """What an archive comes in: a response's body, a stream of a build."""

    def read_block(self) -> bytes:
        """The next piece; b"" at the end."""
        ...

    def close(self) -> None:
        """The rest is not wanted."""
        ...


class ResponseFile(io.RawIOBase):
    """A response's body as a file to read."""

    def __init__(self, response: Blocks) -> None:
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


def unpack(
    response: Blocks,
    target: str | os.PathLike[str],
    rename: tuple[str, str] | None = None,
    *,
    keep_owner: bool = False,
) -> None:
    """Extract an engine's archive into a directory; `rename` (from, to) renames its top entry.

    Files belong to the caller unless `keep_owner`. What a container sends is hostile: a name that leaves `target`, by
    `..`, by being absolute, or through a link that the archive made before, raises InvalidParameter.
    """
    folder = os.fspath(target)
    try:
        with tarfile.open(fileobj=io.BufferedReader(ResponseFile(response)), mode="r|") as tar:
            # `_beneath` is the check here; tarfile's own would refuse every absolute symbolic link.
            tar.extraction_filter = lambda member, path: member
            for member in tar:
                if rename is not None:
                    member = _renamed(member, *rename)
                if not keep_owner and hasattr(os, "getuid"):
                    member.uid, member.gid = os.getuid(), os.getgid()
                _prepare(member, folder)
                tar.extract(member, folder, numeric_owner=True)
    except tarfile.TarError as error:
        raise InvalidParameter(f"the engine sent a malformed archive: {error}") from error
    finally:
        response.close()


def _prepare(member: tarfile.TarInfo, folder: str) -> None:
    """Refuse an entry that would be written outside of the folder; clear what is in its place."""
    if member.ischr() or member.isblk():
        raise InvalidParameter(f"{member.name}: device nodes are not copied to the host")
    path = _beneath(folder, member.name)
    if member.islnk():
        _beneath(folder, member.linkname)
    if os.path.islink(path):  # opening it for writing would follow it
        os.unlink(path)


def _beneath(folder: str, name: str) -> str:
    """The path of a name below the folder; raises InvalidParameter when a step on the way is a link or `..`."""
    steps = [step for step in name.split("/") if step not in ("", ".")]
    if name.startswith("/") or ".." in steps:
        raise InvalidParameter(f"the archive's entry {name!r} points outside of it")
    path = folder
    for step in steps[:-1]:
        path = os.path.join(path, step)
        if os.path.islink(path):
            raise InvalidParameter(f"the archive's entry {name!r} goes through the link {path!r}")
    return os.path.join(path, *steps[-1:])


def _renamed(member: tarfile.TarInfo, old: str, new: str) -> tarfile.TarInfo:
    for attribute in ("name", "linkname") if member.islnk() else ("name",):
        value = getattr(member, attribute)
        if value == old or value.startswith(old + "/"):
            member = member.replace(**{attribute: new + value[len(old) :]}, deep=False)
    return member
