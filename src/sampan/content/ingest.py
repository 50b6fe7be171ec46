"""One blob on its way in: a file that is written, then verified and published by the store."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING, Self

from sampan.errors import InvalidParameter, SystemFailure, reason_of
from sampan.names.digest import Digest, algorithm_of, hasher_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from hashlib import _Hash

    from sampan.content.interface import BlobInfo, Lease, Resource
    from sampan.content.local import LocalContentStore

_BUFFER = 1 << 20


class LocalIngest:
    """See `sampan.content.interface.Ingest`. Made by `LocalContentStore.ingest`."""

    def __init__(
        self,
        store: LocalContentStore,
        key: str,
        number: int,
        fd: int,
        lease: Lease,
        expected: Digest | None,
        size: int | None,
    ) -> None:
        self.key = key
        self.number = number
        self.lease = lease
        self.expected = expected
        self.size = size
        self.offset = os.fstat(fd).st_size
        self._store = store
        self._fd = fd
        self._buffer = bytearray()
        # Only when every byte passes through `write` is the digest known at the end without reading again.
        algorithm = algorithm_of(expected) if expected else "sha256"
        self._hasher: _Hash | None = hashlib.new(algorithm) if self.offset == 0 else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._fd >= 0:
            try:
                await self._flush()
            finally:
                self.release()

    def fileno(self) -> int:
        self._hasher = None
        return self._fd

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append. Raises InvalidParameter beyond the announced size, SystemFailure when the disk is full."""
        self.offset += len(data)
        if self.size is not None and self.offset > self.size:
            raise InvalidParameter(f"content {self.key}: more than the {self.size} bytes announced")
        self._buffer += data
        if len(self._buffer) >= _BUFFER:
            await self._flush()

    async def truncate(self, offset: int) -> None:
        await self._flush()
        await asyncio.to_thread(os.ftruncate, self._fd, offset)
        self.offset = offset
        algorithm = algorithm_of(self.expected) if self.expected else "sha256"
        self._hasher = hashlib.new(algorithm) if offset == 0 else None

    async def commit(
        self,
        *,
        digest: Digest | None = None,
        verified: bool = False,
        labels: Mapping[str, str] | None = None,
        references: Iterable[Resource] = (),
    ) -> BlobInfo:
        await self._flush()
        expected = self.expected or digest
        if digest is not None and digest != expected:
            await self.abort()
            raise InvalidParameter(
                f"content {self.key}: unexpected commit digest {digest}, expected {expected}"
            )
        try:
            actual, size = await asyncio.to_thread(self._check, expected, verified)
        except InvalidParameter:
            await self.abort()
            raise
        info = await self._store.publish(self, actual, size, dict(labels or {}), list(references))
        self.release()
        return info

    async def abort(self) -> None:
        await self._store.forget(self)
        self.release()

    def release(self) -> None:
        """Close the file and let another writer take the key up."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._store.active.discard(self.key)

    async def _flush(self) -> None:
        if self._buffer:
            data, self._buffer = self._buffer, bytearray()
            await asyncio.to_thread(self._append, data)

    def _append(self, data: bytearray) -> None:
        at = self.offset - len(data)
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(self._fd, rest, at)
                at += written
                rest = rest[written:]
        except OSError as error:
            raise SystemFailure(f"writing content {self.key}: {reason_of(error)}") from error
        if self._hasher is not None:
            self._hasher.update(data)

    def _check(self, expected: Digest | None, verified: bool) -> tuple[Digest, int]:
        """Verify size and digest and make the bytes durable; the digest and size they have."""
        size = os.fstat(self._fd).st_size
        if self.size is not None and size != self.size:
            raise InvalidParameter(f"content {self.key}: unexpected commit size {size}, expected {self.size}")
        if verified and expected is not None:
            actual = expected
        elif self._hasher is not None and (expected is None or self._hasher.name == algorithm_of(expected)):
            actual = Digest(f"{self._hasher.name}:{self._hasher.hexdigest()}")
        else:
            actual = digest_of_file(self._fd, expected)
        if expected is not None and actual != expected:
            raise InvalidParameter(
                f"content {self.key}: unexpected commit digest {actual}, expected {expected}"
            )
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise SystemFailure(f"writing content {self.key}: {reason_of(error)}") from error
        return actual, size


def digest_of_file(fd: int, like: Digest | None = None) -> Digest:
    """The digest of a whole file, by the algorithm of `like` or sha256."""
    hasher = hasher_for(like) if like else hashlib.sha256()
    buffer = memoryview(bytearray(_BUFFER))
    at = 0
    while count := os.preadv(fd, [buffer], at):
        hasher.update(buffer[:count])
        at += count
    return Digest(f"{hasher.name}:{hasher.hexdigest()}")
