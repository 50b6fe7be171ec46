"""Blobs being uploaded. A session is a directory with the bytes so far, so it survives the program; the hash of what a predecessor
received is computed anew from them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sampan.names.digest import Digest, algorithm_of, hasher_for
from sampan.registryserver.failures import Refused
from sampan.registryserver.files import names_in, sync_directory, write_link
from sampan.registryserver.paths import Paths

if TYPE_CHECKING:
    from hashlib import _Hash

_BUFFER = 1 << 20
_READ = 1 << 20


class UploadSession:
    """One upload. Requests to it come one at a time; a second one at the same time is refused."""

    def __init__(self, paths: Paths, lock: threading.Lock, name: str, id: str) -> None:
        self.name = name
        self.id = id
        self.directory = paths.upload(name, id)
        self.size = 0
        self.busy = False
        self._paths = paths
        self._lock = lock
        self._file = -1
        self._hasher: _Hash | None = None

    async def write(self, body: AsyncIterator[bytes], limit: int | None = None) -> None:
        """Append a body; what has come stays when it breaks off. Raises `Refused` SIZE_INVALID beyond `limit` bytes."""
        pending = bytearray()
        start = self.size
        try:
            async for chunk in body:
                pending += chunk
                if limit is not None and self.size + len(pending) - start > limit:
                    raise Refused("SIZE_INVALID")
                if len(pending) >= _BUFFER:
                    data, pending = pending, bytearray()
                    await asyncio.to_thread(self._append, data)
        finally:
            if pending and not (limit is not None and self.size + len(pending) - start > limit):
                await asyncio.shield(asyncio.to_thread(self._append, pending))

    async def commit(self, digest: Digest) -> None:
        """Verify, make durable, publish. Raises `Refused` DIGEST_INVALID; the session is over either way."""
        try:
            await asyncio.to_thread(self._commit, digest)
        finally:
            self.close()
            await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)

    def begin(self) -> None:
        """Make a fresh session on disk."""
        self.directory.mkdir(parents=True)
        (self.directory / "startedat").write_text(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        self.open()

    def open(self) -> None:
        """Open the file, as far as it has come."""
        self._file = os.open(self.directory / "data", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.size = os.fstat(self._file).st_size

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _append(self, data: bytearray) -> None:
        rest, at = memoryview(data), self.size
        while rest:
            count = os.pwrite(self._file, rest, at)
            at += count
            rest = rest[count:]
        if self.size == 0:
            # Almost every blob is named by sha256; another algorithm reads the file once more at the end.
            self._hasher = hashlib.sha256()
        if self._hasher is not None:
            self._hasher.update(data)
        self.size = at

    def _commit(self, digest: Digest) -> None:
        hasher = self._hasher
        if hasher is None or hasher.name != algorithm_of(digest):
            hasher = hasher_for(digest)
            at = 0
            while data := os.pread(self._file, _READ, at):
                hasher.update(data)
                at += len(data)
        if hasher.hexdigest() != digest.partition(":")[2]:
            raise Refused(
                "DIGEST_INVALID", f"uploaded content is {hasher.name}:{hasher.hexdigest()}, not {digest}"
            )
        os.fsync(self._file)
        path = self._paths.blob(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            stored = path.exists()
            if stored:
                os.utime(path)  # somebody else stored it: it is fresh again for the collector
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.rename(self.directory / "data", path)
        if not stored:
            sync_directory(path.parent)
        write_link(self._paths.layer_link(self.name, digest), digest)


class Uploads:
    """All sessions of a registry."""

    def __init__(self, paths: Paths, lock: threading.Lock) -> None:
        self._paths = paths
        self._lock = lock
        self._open: dict[tuple[str, str], UploadSession] = {}

    async def begin(self, name: str) -> UploadSession:
        """A new session."""
        session = UploadSession(self._paths, self._lock, name, str(uuid.uuid4()))
        await asyncio.to_thread(session.begin)
        self._open[name, session.id] = session
        return session

    async def find(self, name: str, id: str) -> UploadSession:
        """A session, also one that a predecessor of this process began. Raises `Refused` BLOB_UPLOAD_UNKNOWN."""
        known = self._open.get((name, id))
        if known is not None:
            return known
        session = UploadSession(self._paths, self._lock, name, id)

        def open_again() -> None:
            if not session.directory.is_dir():
                raise Refused("BLOB_UPLOAD_UNKNOWN")
            session.open()

        await asyncio.to_thread(open_again)
        return self._open.setdefault((name, id), session)

    def forget(self, session: UploadSession) -> None:
        """The session is over."""
        session.close()
        self._open.pop((session.name, session.id), None)

    async def cancel(self, session: UploadSession) -> None:
        """End a session and remove its bytes."""
        self.forget(session)
        await asyncio.to_thread(shutil.rmtree, session.directory, ignore_errors=True)

    def purge(self, names: list[str], age: float) -> int:
        """Remove sessions that nothing was written to for so many seconds; how many. Blocks."""
        removed = 0
        for name in names:
            for id in names_in(self._paths.uploads(name)):
                directory = self._paths.upload(name, id)
                session = self._open.get((name, id))
                if (session is None or not session.busy) and _age(directory) > age:
                    if session is not None:
                        self.forget(session)
                    shutil.rmtree(directory, ignore_errors=True)
                    removed += 1
        return removed

    def close(self) -> None:
        """Close every file; the sessions stay on disk."""
        for session in list(self._open.values()):
            session.close()
        self._open.clear()


def _age(directory: os.PathLike[str]) -> float:
    newest = 0.0
    for path in (directory, os.path.join(directory, "data")):
        try:
            newest = max(newest, os.stat(path).st_mtime)
        except OSError:
            continue
    return time.time() - newest
