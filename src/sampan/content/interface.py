"""The content store: every manifest, config and layer of every image, as bytes under their digest.

Terms
=====

- A **blob** is a byte string named by its digest. It is complete, verified and durable from the instant it
  can be seen, and it never changes; only its labels do.
- An **ingest** is a blob on its way in, named by a *key* that the writer chose. It survives a restart of the
  engine, so the writer that comes back with the same key goes on at `offset`. Nobody but the writer sees it.
- A **lease** keeps what is named in it from being collected. A lease is taken *before* the ingest begins and
  dropped *after* something lasting (an image row, a child snapshot) refers to the blob, so that no instant
  exists at which the collector could take a blob that somebody is about to use.
- A **reference** says that a blob is of no use without another resource: a manifest refers to its config and
  layers, a config to the snapshots unpacked from it. The collector follows references from leases and from
  the roots that other services name.

Life of a blob
==============

1. The writer takes a lease and opens an ingest. When the digest is known in advance and the blob is already
   there, the writer gets `None` and the blob has been added to the lease instead: nothing to do.
2. The writer writes; after an interruption it asks for the same key again and continues at `offset`.
3. Commit checks size and digest, makes the data durable, renames it into place and only then writes the row
   that makes it visible. A blob that two writers commit at once is stored once.
4. References and labels are set with the commit or later.
5. When neither a root nor a lease leads to the blob any more, collection removes the row, durably, then the
   file.

Example::

    async with store.leases.hold("load of busybox") as lease:
        ingest = await store.ingest("layer-1", lease=lease, expected=descriptor.digest, size=descriptor.size)
        if ingest is not None:
            async with ingest:
                async for chunk in body:
                    await ingest.write(chunk)
                await ingest.commit()
        await store.put(manifest_bytes, lease=lease, references=[content_resource(descriptor.digest)])
        await images.create(...)          # a root from here on; the lease may end
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from sampan.names.digest import Digest


class Resource(NamedTuple):
    """Something the collector knows: a blob, a snapshot, an ingest, by kind and id within the kind."""

    kind: str
    """`content`, `snapshot` or `ingest`."""
    id: str


def content_resource(digest: Digest) -> Resource:
    """The blob of that digest, as a resource."""
    return Resource("content", digest)


def snapshot_resource(name: str) -> Resource:
    """The snapshot of that key or name, as a resource."""
    return Resource("snapshot", name)


class BlobInfo(NamedTuple):
    """What is known of a blob."""

    digest: Digest
    size: int
    """Bytes."""
    created_ns: int
    """Wall-clock time of the commit, nanoseconds since the epoch."""
    labels: Mapping[str, str]


class IngestInfo(NamedTuple):
    """An ingest that has begun and was neither committed nor aborted."""

    key: str
    offset: int
    """Bytes written so far."""
    expected: Digest | None
    size: int | None
    """Bytes it will have, when the writer said so."""
    started_ns: int


class Lease(NamedTuple):
    """A lease by id; it ends with `Leases.delete` or when it expires."""

    id: str
    created_ns: int
    expires_ns: int | None
    labels: Mapping[str, str]


class Leases(Protocol):
    """Leases, stored in the database, so that they outlive the engine's process."""

    async def create(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        expires_in: float | None = None,
        id: str | None = None,
    ) -> Lease:
        """A new lease; `expires_in` in seconds. Raises Conflict when `id` is taken."""
        ...

    def hold(self, purpose: str) -> AbstractAsyncContextManager[Lease]:
        """A lease for the length of a block of code. After kill -9 it expires within a day."""
        ...

    async def add(self, lease: Lease, *resources: Resource) -> None:
        """Protect the resources, which need not exist yet: lease first, then look whether the thing is there.

        Raises NotFound when the lease is gone.
        """
        ...

    async def resources(self, lease: Lease) -> list[Resource]: ...

    async def walk(self) -> list[Lease]: ...

    async def delete(self, lease: Lease) -> None:
        """End the lease; what it alone protected may be collected. Unknown leases are ignored."""
        ...


class Ingest(Protocol):
    """A blob being written. Leaving its context without a commit keeps the bytes for a later resumption."""

    key: str
    offset: int
    """Bytes written so far; the next write goes there."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    def fileno(self) -> int:
        """The file of the ingest, opened for reading and writing, for a worker that writes it itself.

        A worker writes at `offset` onward; the caller then calls `commit`, which reads the size from the
        file. The descriptor belongs to the ingest.
        """
        ...

    async def write(self, data: bytes | bytearray | memoryview) -> None: ...

    async def truncate(self, offset: int) -> None:
        """Forget the bytes after `offset`."""
        ...

    async def commit(
        self,
        *,
        digest: Digest | None = None,
        verified: bool = False,
        labels: Mapping[str, str] | None = None,
        references: Iterable[Resource] = (),
    ) -> BlobInfo:
        """Verify, make durable and publish.

        `digest` is what the blob should be, when it was not said at the start; `verified` says that a worker
        computed that digest from these very bytes, so they are not read again. Raises InvalidParameter when
        size or digest differ (the ingest is removed then: its bytes are wrong).
        """
        ...

    async def abort(self) -> None:
        """Remove the ingest and its bytes."""
        ...


class ContentStore(Protocol):
    """Blobs by digest."""

    @property
    def leases(self) -> Leases:
        """What protects blobs from collection."""
        ...

    async def ingest(
        self, key: str, *, lease: Lease, expected: Digest | None = None, size: int | None = None
    ) -> Ingest | None:
        """Begin or resume an ingest; None when the expected blob is already stored (it is in the lease now).

        Raises Conflict when the key is being written by somebody else at this moment.
        """
        ...

    async def put(
        self,
        data: bytes,
        *,
        lease: Lease,
        labels: Mapping[str, str] | None = None,
        references: Iterable[Resource] = (),
    ) -> BlobInfo:
        """Store a small blob (manifest, config) in one call. Storing it again adds labels and references."""
        ...

    async def info(self, digest: Digest) -> BlobInfo:
        """Raises NotFound ("content digest sha256:…: not found")."""
        ...

    async def exists(self, *digests: Digest) -> bool:
        """Whether all of them are there."""
        ...

    async def read(self, digest: Digest, *, limit: int = 8 << 20) -> bytes:
        """A whole small blob, verified. Raises NotFound, InvalidParameter over `limit` bytes, DataLoss if
        damaged.
        """
        ...

    async def open(self, digest: Digest) -> int:
        """A read-only descriptor of the blob, which the caller closes. It stays valid when the blob is
        deleted.
        """
        ...

    def stream(
        self, digest: Digest, *, offset: int = 0, length: int | None = None, chunk: int = 1 << 20
    ) -> AsyncIterator[bytes]:
        """The bytes of a range. Raises NotFound at the first step."""
        ...

    async def walk(self) -> list[BlobInfo]: ...

    async def ingests(self) -> list[IngestInfo]: ...

    async def set_labels(self, digest: Digest, labels: Mapping[str, str | None]) -> BlobInfo:
        """Set the labels given and remove those given as None."""
        ...

    async def add_references(self, digest: Digest, references: Iterable[Resource]) -> None:
        """Say that the blob needs these resources for as long as it lives."""
        ...

    async def references(self, digest: Digest) -> list[Resource]: ...

    async def delete(self, digest: Digest) -> None:
        """Remove a blob at once, leases notwithstanding. Raises NotFound. Images are deleted by collection
        instead.
        """
        ...


class Collectable(Protocol):
    """A store whose resources the collector may take. The content store and the snapshotters are ones."""

    kind: str

    async def collect_candidates(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Every resource of this kind by id, with the (kind, id) of what it refers to (a snapshot: its parent)."""
        ...

    async def collect(
        self, ids: Iterable[str], needed: Callable[[sqlite3.Connection, Resource], bool]
    ) -> dict[str, int]:
        """Remove these, in the order given (referrers first); the bytes freed of each one removed.

        `needed` is asked within the transaction that deletes the row; what it says yes to stays.
        """
        ...
