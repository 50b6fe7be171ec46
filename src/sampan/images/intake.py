"""Take in an image archive: from the request's body into the content store, without a copy on disk in between.

The body goes through a pipe to a thread, which decompresses, reads the tar and hashes; all of that is C code that lets the loop
run. What is named by its digest, or is large, goes into the content store as it comes; small files are kept
in memory, bounded. No name in the archive ever becomes a path of the host's.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import posixpath
import re
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from sampan.archive.compression import InputStream
from sampan.archive.tarread import DIRECTORY, LINK, REGULAR, SYMLINK, Entry, TarReader
from sampan.content.interface import ContentStore, Ingest, Lease
from sampan.errors import InvalidParameter, SystemFailure, reason_of
from sampan.images.bodypipe import pipe_to_thread
from sampan.images.received import Received, StoredFile
from sampan.images.unpacking import EXPANSION_FREE, EXPANSION_MAX
from sampan.names.digest import Digest, parse_digest

T = TypeVar("T")

SMALL = 1 << 20
"""Bytes up to which a file without a digest in its name is kept in memory."""

SMALL_TOTAL = 32 << 20
"""Bytes of small files altogether; further ones go into the content store."""

ENTRIES_MAX = 100_000
"""Entries that an archive of images may have."""


_BLOB = re.compile(r"blobs/([^/]+)/([^/]+)")


async def receive(
    received: Received, content: ContentStore, lease: Lease, body: AsyncIterator[bytes]
) -> None:
    """Read the whole archive into `received`.

    Raises `InvalidParameter` naming the entry for anything hostile or damaged, `SystemFailure` when the disk
    is full. Then nothing but leased blobs stays behind, for collection.
    """
    intake = _Intake(received, content, lease, asyncio.get_running_loop())
    await pipe_to_thread(body, intake.run)


class _Intake:
    """The thread's side. Calls of the content store are made on the loop, and waited for."""

    def __init__(
        self, received: Received, content: ContentStore, lease: Lease, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._received = received
        self._content = content
        self._lease = lease
        self._loop = loop
        self._small_total = 0

    def run(self, reader: int) -> None:
        stream = InputStream(reader, digests=False)
        tar = TarReader(stream)
        count = 0
        for entry in tar:
            count += 1
            if count > ENTRIES_MAX:
                raise InvalidParameter(f"the archive has more than {ENTRIES_MAX} entries")
            if entry.kind != DIRECTORY:
                self._take(tar, stream, entry)
        if count == 0 and stream.size == 0:
            raise InvalidParameter("unrecognized image format")
        while stream.read():  # what tar pads an archive with; the sender is still writing it
            pass

    def _take(self, tar: TarReader, stream: InputStream, entry: Entry) -> None:
        name = _checked_name(entry.name)
        if name in self._received:
            raise InvalidParameter(f"archive entry {entry.name!r}: twice in the archive")
        if entry.kind == REGULAR and entry.sparse is None:
            self._take_file(tar, stream, name, entry.size)
        elif entry.kind == SYMLINK:
            self._received.links[name] = entry.link
        elif entry.kind == LINK:
            self._received.links[name] = posixpath.relpath(
                _checked_name(entry.link), posixpath.dirname(name) or "."
            )
        else:
            raise InvalidParameter(f"archive entry {entry.name!r}: neither a file, a directory nor a link")

    def _take_file(self, tar: TarReader, stream: InputStream, name: str, size: int) -> None:
        expected = _digest_in(name)
        if expected is None and size <= SMALL and self._small_total + size <= SMALL_TOTAL:
            self._small_total += size
            pieces = []
            while piece := tar.read():
                pieces.append(piece)
            self._received.small[name] = b"".join(pieces)
            return
        self._received.stored[name] = self._store(tar, stream, name, size, expected)

    def _store(
        self, tar: TarReader, stream: InputStream, name: str, size: int, expected: Digest | None
    ) -> StoredFile:
        key = f"load-{self._lease.id}-{name}"
        ingest = self._on_loop(self._content.ingest(key, lease=self._lease, expected=expected, size=size))
        if ingest is None:
            assert expected is not None  # the store can only have what it was asked for
            return StoredFile(expected, size, b"")
        try:
            digest, start = self._copy(tar, stream, ingest, expected)
            info = self._on_loop(ingest.commit(digest=digest, verified=True))
            return StoredFile(info.digest, info.size, start)
        except BaseException as error:
            self._on_loop(ingest.abort())
            if isinstance(error, InvalidParameter):
                raise InvalidParameter(f"archive entry {name!r}: {error}") from error
            raise

    def _copy(
        self, tar: TarReader, stream: InputStream, ingest: Ingest, expected: Digest | None
    ) -> tuple[Digest, bytes]:
        """Write the entry's data to the ingest; its digest and first bytes."""
        hasher = hashlib.new(expected.partition(":")[0] if expected else "sha256")
        output = ingest.fileno()
        start = b""
        while view := tar.read_view():
            if not start:
                start = bytes(view[:8])
            hasher.update(view)
            write_all(output, view)
            if stream.uncompressed_size > EXPANSION_FREE + EXPANSION_MAX * stream.size:
                raise InvalidParameter(
                    f"the archive decompresses to more than {EXPANSION_MAX} times its size"
                )
        digest = Digest(f"{hasher.name}:{hasher.hexdigest()}")
        if expected is not None and digest != expected:
            raise InvalidParameter(f"its content has the digest {digest}")
        return digest, start

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write everything. Raises `SystemFailure` when the disk does not take it."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    except OSError as error:
        raise SystemFailure(f"cannot store the archive: {reason_of(error)}") from error


def _checked_name(name: str) -> str:
    """The name as used here. Raises `InvalidParameter` for one that leads out of the archive: an attack on whoever extracts
    it.
    """
    plain = posixpath.normpath(name)
    if name.startswith("/") or plain == ".." or plain.startswith("../"):
        raise InvalidParameter(f"archive entry {name!r}: its path leads out of the archive")
    return plain


def _digest_in(name: str) -> Digest | None:
    """The digest that a path of an OCI layout promises. Raises `InvalidParameter` for a malformed one."""
    found = _BLOB.fullmatch(name)
    if found is None:
        return None
    try:
        return parse_digest(f"{found[1]}:{found[2]}")
    except InvalidParameter as error:
        raise InvalidParameter(f"archive entry {name!r}: {error}") from error
