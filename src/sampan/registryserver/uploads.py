"""Blobs being uploaded. What a session has received is in the storage, so it survives the program, and another program on the same
storage goes on with it; the hash of what this one has not received itself is computed anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from sampan.names.digest import Digest, algorithm_of, hasher_for
from sampan.registryserver.failures import Refused
from sampan.registryserver.paths import Paths
from sampan.registryserver.storage import Partial, Storage

if TYPE_CHECKING:
    from hashlib import _Hash

_BUFFER = 1 << 20


class UploadSession:
    """One upload. Requests to it come one at a time; a second one at the same time is refused."""

    def __init__(self, name: str, id: str, paths: Paths, storage: Storage, partial: Partial) -> None:
        self.name = name
        self.id = id
        self.directory = paths.upload(name, id)
        self.busy = False
        self._paths = paths
        self._storage = storage
        self._partial = partial
        self._hasher: _Hash | None = None
        self._hashed = 0

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._partial.size

    async def write(self, body: AsyncIterator[bytes], limit: int | None = None) -> None:
        """Append a body; what has come stays when it breaks off. Raises `Refused` SIZE_INVALID beyond `limit` bytes."""
        pending = bytearray()
        start = self.size
        try:
            async for chunk in body:
                pending += chunk
                if limit is not None and self.size + len(pending) - start > limit:
                    pending.clear()
                    raise Refused("SIZE_INVALID")
                if len(pending) >= _BUFFER:
                    data, pending = pending, bytearray()
                    await asyncio.to_thread(self._append, data)
            if pending:
                data, pending = pending, bytearray()
                await asyncio.to_thread(self._append, data)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._rescue, pending))
            raise

    async def keep(self) -> None:
        """What has come survives this program's end: to be called before it is acknowledged."""
        await asyncio.to_thread(self._partial.keep)

    async def commit(self, digest: Digest) -> None:
        """Verify, make durable, publish. Raises `Refused` DIGEST_INVALID; the session is over either way."""
        try:
            await asyncio.to_thread(self._commit, digest)
        finally:
            self.close()
            await asyncio.to_thread(self._storage.remove_tree, self.directory)

    async def reload(self) -> bool:
        """See what another program on the same storage has added; for who has made the session busy. False: it has ended it."""
        return await asyncio.to_thread(self._partial.reload)

    def close(self) -> None:
        self._partial.close()

    def _rescue(self, pending: bytearray) -> None:
        if pending:
            self._append(pending)
        self._partial.keep()

    def _append(self, data: bytearray) -> None:
        if self.size == 0:
            # Almost every blob is named by sha256; another algorithm reads the file once more at the end.
            self._hasher, self._hashed = hashlib.sha256(), 0
        if self._hasher is not None and self._hashed == self.size:
            self._hasher.update(data)
            self._hashed += len(data)
        self._partial.append(data)

    def _commit(self, digest: Digest) -> None:
        hasher = self._hasher
        if hasher is None or self._hashed != self.size or hasher.name != algorithm_of(digest):
            hasher = hasher_for(digest)
            for data in self._partial.read():
                hasher.update(data)
        if hasher.hexdigest() != digest.partition(":")[2]:
            raise Refused(
                "DIGEST_INVALID", f"uploaded content is {hasher.name}:{hasher.hexdigest()}, not {digest}"
            )
        self._partial.publish(self._paths.blob(digest))
        self._storage.write(self._paths.layer_link(self.name, digest), digest.encode())


class Uploads:
    """All sessions of a registry."""

    def __init__(self, paths: Paths, storage: Storage) -> None:
        self._paths = paths
        self._storage = storage
        self._open: dict[tuple[str, str], UploadSession] = {}

    async def begin(self, name: str) -> UploadSession:
        """A new session."""
        id = str(uuid.uuid4())
        partial = await asyncio.to_thread(self._storage.upload, self._paths.upload(name, id))
        session = UploadSession(name, id, self._paths, self._storage, partial)
        self._open[name, session.id] = session
        return session

    async def find(self, name: str, id: str) -> UploadSession:
        """A session, also one that another program began. Raises `Refused` BLOB_UPLOAD_UNKNOWN."""
        known = self._open.get((name, id))
        if known is not None:
            return known
        partial = await asyncio.to_thread(self._storage.find_upload, self._paths.upload(name, id))
        if partial is None:
            raise Refused("BLOB_UPLOAD_UNKNOWN")
        session = UploadSession(name, id, self._paths, self._storage, partial)
        return self._open.setdefault((name, id), session)

    def forget(self, session: UploadSession) -> None:
        """The session is over."""
        session.close()
        self._open.pop((session.name, session.id), None)

    async def cancel(self, session: UploadSession) -> None:
        """End a session and remove its bytes."""
        self.forget(session)
        await asyncio.to_thread(self._storage.remove_tree, session.directory)

    def purge(self, names: list[str], age: float) -> int:
        """Remove sessions that nothing was written to for so many seconds; how many. Blocks."""
        removed = 0
        for name in names:
            for id in self._storage.names(self._paths.uploads(name)):
                directory = self._paths.upload(name, id)
                session = self._open.get((name, id))
                if (session is None or not session.busy) and self._storage.upload_age(directory) > age:
                    if session is not None:
                        self.forget(session)
                    self._storage.remove_tree(directory)
                    removed += 1
        return removed

    def close(self) -> None:
        """Close every session; their bytes stay."""
        for session in list(self._open.values()):
            session.close()
        self._open.clear()
