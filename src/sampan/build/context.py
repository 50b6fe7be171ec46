"""A build's context: the client's archive, unpacked into a directory that nobody else looks into.

The archive is hostile: names and links are resolved beneath the directory by the kernel, and what reads the context later does
the same.
"""

from __future__ import annotations

import asyncio
import errno
import os
import posixpath
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sampan.containers.copying import feed
from sampan.dockerfile.ignore import Ignore
from sampan.dockerfile.source import MAX_BYTES
from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.linux import path as paths
from sampan.names.names import new_id
from sampan.zygote.workers import Workers

IGNORE_FILE = ".dockerignore"


class Context:
    """A directory with a build's files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def forget_ignored(self, dockerfile: str) -> None:
        """Remove what the client had to send though `.dockerignore` leaves it out: that file and the Dockerfile."""
        await asyncio.to_thread(self._forget_ignored, dockerfile)

    def _forget_ignored(self, dockerfile: str) -> None:
        try:
            ignore = Ignore.read(self._read(IGNORE_FILE).decode(errors="surrogateescape"))
        except SampanError:
            return
        root = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for path in (IGNORE_FILE, posixpath.normpath(dockerfile)):
                if ignore.excludes(path):
                    directory = paths.open_in_root(root, posixpath.dirname(path) or "/", os.O_PATH)
                    os.unlink(posixpath.basename(path), dir_fd=directory)
                    os.close(directory)
        finally:
            os.close(root)

    async def read(self, path: str) -> bytes:
        """A file's content. Raises `NotFound` naming it, `InvalidParameter` for what is no file or too large for a Dockerfile."""
        return await asyncio.to_thread(self._read, path)

    def _read(self, path: str) -> bytes:
        root = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Links of the context lead inside of it: a Dockerfile may be a link to the host's /etc/shadow.
            found = paths.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise NotFound(f"Cannot locate specified Dockerfile: {path}") from None
            raise InvalidParameter(f"Cannot read {path}: {os.strerror(error.errno or 0).lower()}") from None
        finally:
            os.close(root)
        try:
            with open(found, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except IsADirectoryError:
            raise InvalidParameter(f"Cannot read {path}: it is a directory") from None
        if not data:
            raise InvalidParameter(f"the Dockerfile ({path}) cannot be empty")
        return data


@asynccontextmanager
async def received(body: AsyncIterator[bytes], directory: Path, workers: Workers) -> AsyncIterator[Context]:
    """Unpack a tar of any compression below `directory`; it is removed at the end. Raises `InvalidParameter` for a bad archive."""
    place = directory / new_id()
    await asyncio.to_thread(place.mkdir, 0o700, True)
    try:
        root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        feeding = asyncio.create_task(feed(writer, body))
        try:
            await workers.run("sampan.archive.unpack:unpack_job", {"path": "/"}, [reader, root])
        finally:
            os.close(reader)
            os.close(root)
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        yield Context(place)
    finally:
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)


def remove_leftovers(directory: Path) -> None:
    """Contexts of builds that a killed engine did not finish."""
    for place in directory.iterdir() if directory.is_dir() else ():
        shutil.rmtree(place, ignore_errors=True)
