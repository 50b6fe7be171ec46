"""Looking at a build's files: what a frontend reads of its references, and what is sent to the client."""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.buildkit.protos import fsutil_pb2
from sampan.dockerfile.ignore import expression_of
from sampan.engineapi import gomode
from sampan.errors import NotFound
from sampan.ops import reading
from sampan.ops.choosing import open_source
from sampan.ops.reading import open_part

if TYPE_CHECKING:
    from sampan.ops.trees import Trees
    from sampan.solver.interface import Tree

_PACK = "sampan.archive.pack:pack_trees_job"
_PIECE = 1 << 20
_LARGEST = 128 << 20
"""Bytes of a file that a frontend may read at once."""


class Files(NamedTuple):
    """What a client is given: the files beneath a (borrowed) descriptor, in a directory of that name; "" is the top."""

    directory: str
    root: int


@asynccontextmanager
async def opened(trees: Trees, tree: Tree) -> AsyncIterator[int]:
    """A descriptor of a tree's root, mounted where nobody else sees it, while the block lasts."""
    async with opened_source(await trees.source(tree)) as root:
        yield root


@asynccontextmanager
async def opened_source(source: dict[str, Any]) -> AsyncIterator[int]:
    """The same of what `ops.choosing.open_source` takes."""
    root = await asyncio.to_thread(open_source, source)
    try:
        yield root
    finally:
        await asyncio.to_thread(os.close, root)


async def read_files(trees: Trees, tree: Tree, paths: Sequence[str]) -> list[bytes | None]:
    """Whole files of a tree, in one visit; None for one that is not there. Raises `InvalidParameter` as `read_file` does."""
    source = await trees.source(tree)

    def look() -> list[bytes | None]:
        root = open_source(source)
        try:
            return [_read_if_there(root, path) for path in paths]
        finally:
            os.close(root)

    return await asyncio.to_thread(look)


def _read_if_there(root: int, path: str) -> bytes | None:
    try:
        return read_file(root, path)
    except NotFound:
        return None


async def packed(
    trees: Trees, files: Sequence[Files], mtime_ns: int | None = None
) -> AsyncGenerator[bytes, None]:
    """All those files as a tar, with one time if there is `mtime_ns`; a worker packs them."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    arguments = {"names": [each.directory for each in files], "mtime_ns": mtime_ns}
    packing = asyncio.create_task(trees.run(_PACK, arguments, (writer, *(each.root for each in files))))
    packing.add_done_callback(lambda _: os.close(writer))  # the reader sees the end, however it ended
    try:
        while chunk := await asyncio.to_thread(os.read, reader, _PIECE):
            yield chunk
        await packing
    finally:
        packing.cancel()
        await asyncio.gather(packing, return_exceptions=True)
        os.close(reader)


def read_file(root: int, path: str, offset: int = 0, length: int = 0) -> bytes:
    """A file's content, or a part of it. Blocks. Raises `NotFound`, `InvalidParameter`."""
    return reading.read_file(root, path, _LARGEST, offset, length)


def read_directory(root: int, path: str, pattern: str = "") -> list[fsutil_pb2.Stat]:
    """A directory's entries in the order of their names, those that the pattern fits. Blocks. Raises `NotFound`."""
    wanted = re.compile(expression_of(pattern), re.DOTALL) if pattern else None
    fd = open_part(root, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = sorted(os.listdir(fd), key=os.fsencode)
        return [_described(fd, name) for name in names if wanted is None or wanted.match(name)]
    finally:
        os.close(fd)


def describe(root: int, path: str) -> fsutil_pb2.Stat:
    """One file, a link for itself. Blocks. Raises `NotFound`."""
    clean = posixpath.normpath("/" + path)
    parent, name = posixpath.split(clean)
    fd = open_part(root, parent, os.O_PATH | os.O_DIRECTORY)
    try:
        return _described(fd, name or ".", clean.lstrip("/"))
    except FileNotFoundError:
        raise NotFound(f"lstat {path}: no such file or directory") from None
    finally:
        os.close(fd)


def _described(directory: int, name: str, path: str = "") -> fsutil_pb2.Stat:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    described = fsutil_pb2.Stat(
        path=path or name,
        mode=gomode.from_kernel(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size if stat.S_ISREG(found.st_mode) else 0,
        modTime=found.st_mtime_ns,
    )
    if stat.S_ISLNK(found.st_mode):
        described.linkname = os.readlink(name, dir_fd=directory)
    return described
