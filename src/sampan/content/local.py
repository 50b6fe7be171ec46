"""The content store in a local directory: `blobs/sha256/<hex>` and, on their way in, `ingest/<number>`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

from sampan.content.ingest import LocalIngest, digest_of_file
from sampan.content.interface import BlobInfo, IngestInfo, Resource, content_resource
from sampan.content.leases import LocalLeases
from sampan.errors import Conflict, DataLoss, InvalidParameter, NotFound, SystemFailure, reason_of
from sampan.names.digest import HEX_LENGTH, Digest, algorithm_of, digest_of, encoded_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    from sampan.content.interface import Lease
    from sampan.store import Database

_BLOB = "select digest, size, created_ns, labels from content_blob"


class LocalContentStore:
    """See `sampan.content.interface.ContentStore`. Make one with `start`."""

    kind = "content"

    def __init__(self, database: Database, directory: Path) -> None:
        self.leases = LocalLeases(database)
        self.active: set[str] = set()
        """Keys of the ingests that somebody is writing now."""
        self._database = database
        self._blobs = directory / "blobs"
        self._ingests = directory / "ingest"
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @classmethod
    async def start(cls, database: Database, directory: Path) -> LocalContentStore:
        """The store in `directory`, made if need be, half-done work of a killed engine removed."""
        store = cls(database, directory)
        await asyncio.to_thread(store._make_directories)
        await store.leases.expire()
        await store._recover()
        return store

    # -- writing

    async def ingest(
        self, key: str, *, lease: Lease, expected: Digest | None = None, size: int | None = None
    ) -> LocalIngest | None:
        if key in self.active:
            raise Conflict(f"content {key}: already being written: locked")
        self.active.add(key)
        try:
            if expected is not None and await self._claim(expected, lease, key):
                self.active.discard(key)
                return None
            number = await self._begin(key, lease, expected, size)
            fd = await asyncio.to_thread(self._open_ingest, number)
        except BaseException:
            self.active.discard(key)
            raise
        return LocalIngest(self, key, number, fd, lease, expected, size)

    async def put(
        self,
        data: bytes,
        *,
        lease: Lease,
        labels: Mapping[str, str] | None = None,
        references: Iterable[Resource] = (),
    ) -> BlobInfo:
        digest = digest_of(data)
        references = list(references)
        ingest = await self.ingest(f"put-{digest}-{lease.id}", lease=lease, expected=digest, size=len(data))
        if ingest is None:
            known = await self._with(digest, labels or {}, references)
            if known is not None:
                return known
            await self.add_references(digest, references)
            return await self.set_labels(digest, dict(labels or {}))
        async with ingest:
            if ingest.offset:
                await ingest.truncate(0)
            await ingest.write(data)
            return await ingest.commit(labels=labels, references=references)

    async def publish(
        self,
        ingest: LocalIngest,
        digest: Digest,
        size: int,
        labels: dict[str, str],
        references: list[Resource],
    ) -> BlobInfo:
        """Make a verified, durable ingest visible (the second half of its `commit`)."""
        info = BlobInfo(digest, size, time.time_ns(), labels)
        resource = content_resource(digest)
        self.leases.touch([resource])

        def insert(cx: sqlite3.Connection) -> None:
            cx.execute(
                "insert into content_blob values (?, ?, ?, ?) on conflict do update"
                " set labels = json_patch(labels, excluded.labels)",
                (digest, size, info.created_ns, json.dumps(labels)),
            )
            _insert_references(cx, digest, references)
            self.leases.insert(cx, ingest.lease, [resource])
            cx.execute("delete from content_ingest where number = ?", (ingest.number,))

        async with self._locked(digest):
            try:
                await asyncio.to_thread(self._rename_into_place, ingest.number, digest)
            except OSError as error:
                raise SystemFailure(f"storing content {digest}: {reason_of(error)}") from error
            await self._database.write(insert)
        return await self.info(digest)

    async def forget(self, ingest: LocalIngest) -> None:
        """Remove an ingest: row, then file."""
        await self._database.write(
            lambda cx: cx.execute("delete from content_ingest where number = ?", (ingest.number,)),
            durable=False,
        )
        await asyncio.to_thread(_unlink, self._ingests / str(ingest.number))

    # -- reading

    async def info(self, digest: Digest) -> BlobInfo:
        row = await self._database.read(
            lambda cx: cx.execute(f"{_BLOB} where digest = ?", (digest,)).fetchone()
        )
        if row is None:
            raise NotFound(f"content digest {digest}: not found")
        return _info(row)

    async def exists(self, *digests: Digest) -> bool:
        query = "select 1 from content_blob where digest = ?"
        return await self._database.read(
            lambda cx: all(cx.execute(query, (digest,)).fetchone() is not None for digest in digests)
        )

    async def read(self, digest: Digest, *, limit: int = 8 << 20) -> bytes:
        info = await self.info(digest)
        if info.size > limit:
            raise InvalidParameter(
                f"content digest {digest}: {info.size} bytes, more than the {limit} allowed"
            )
        data = await asyncio.to_thread(self._path(digest).read_bytes)
        if digest_of(data, algorithm_of(digest)) != digest:
            raise DataLoss(f"content digest {digest}: the stored bytes are damaged")
        return data

    async def open(self, digest: Digest) -> int:
        await self.info(digest)
        try:
            return await asyncio.to_thread(os.open, self._path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DataLoss(f"content digest {digest}: the stored bytes are missing") from None

    async def stream(
        self, digest: Digest, *, offset: int = 0, length: int | None = None, chunk: int = 1 << 20
    ) -> AsyncIterator[bytes]:
        fd = await self.open(digest)
        try:
            end = os.fstat(fd).st_size if length is None else offset + length
            while offset < end:
                data = await asyncio.to_thread(os.pread, fd, min(chunk, end - offset), offset)
                if not data:
                    return
                offset += len(data)
                yield data
        finally:
            os.close(fd)

    async def verify(self, digest: Digest) -> None:
        """Read the whole blob. Raises DataLoss when it is not what its digest says."""
        fd = await self.open(digest)
        try:
            if await asyncio.to_thread(digest_of_file, fd, digest) != digest:
                raise DataLoss(f"content digest {digest}: the stored bytes are damaged")
        finally:
            os.close(fd)

    async def walk(self) -> list[BlobInfo]:
        rows = await self._database.read(lambda cx: cx.execute(f"{_BLOB} order by digest").fetchall())
        return [_info(row) for row in rows]

    async def ingests(self) -> list[IngestInfo]:
        query = "select number, key, expected, size, started_ns from content_ingest order by number"
        rows = await self._database.read(lambda cx: cx.execute(query).fetchall())
        sizes = await asyncio.to_thread(lambda: [_size(self._ingests / str(row[0])) for row in rows])
        return [IngestInfo(row[1], size, *row[2:]) for row, size in zip(rows, sizes, strict=True)]

    # -- labels, references, deletion

    async def _with(
        self, digest: Digest, labels: Mapping[str, str], references: list[Resource]
    ) -> BlobInfo | None:
        """A blob that has all of these already, durably: then nothing needs to be written."""

        def look(cx: sqlite3.Connection) -> BlobInfo | None:
            row = cx.execute(f"{_BLOB} where digest = ?", (digest,)).fetchone()
            info = None if row is None else _info(row)
            if info is None or not labels.items() <= info.labels.items():
                return None
            found = cx.execute("select kind, id from content_reference where digest = ?", (digest,))
            return info if set(references) <= {Resource(*each) for each in found} else None

        return await self._database.read(look)

    async def set_labels(self, digest: Digest, labels: Mapping[str, str | None]) -> BlobInfo:
        def update(cx: sqlite3.Connection) -> BlobInfo:
            row = cx.execute(
                "update content_blob set labels = json_patch(labels, ?) where digest = ? returning *",
                (json.dumps(dict(labels)), digest),
            ).fetchone()
            if row is None:
                raise NotFound(f"content digest {digest}: not found")
            return _info(row)

        return await self._database.write(update)

    async def add_references(self, digest: Digest, references: Iterable[Resource]) -> None:
        targets = list(references)
        if targets:
            await self._database.write(lambda cx: _insert_references(cx, digest, targets))

    async def references(self, digest: Digest) -> list[Resource]:
        query = "select kind, id from content_reference where digest = ? order by kind, id"
        rows = await self._database.read(lambda cx: cx.execute(query, (digest,)).fetchall())
        return [Resource(*row) for row in rows]

    async def delete(self, digest: Digest) -> None:
        def remove(cx: sqlite3.Connection) -> None:
            if cx.execute("delete from content_blob where digest = ?", (digest,)).rowcount == 0:
                raise NotFound(f"content digest {digest}: not found")

        async with self._locked(digest):
            await self._database.write(remove)
            await asyncio.to_thread(_unlink, self._path(digest))

    async def collect_candidates(self) -> dict[str, list[Resource]]:
        def select(cx: sqlite3.Connection) -> dict[str, list[Resource]]:
            found: dict[str, list[Resource]] = {
                row[0]: [] for row in cx.execute("select digest from content_blob")
            }
            for digest, kind, id in cx.execute("select digest, kind, id from content_reference"):
                found[digest].append(Resource(kind, id))
            return found

        return await self._database.read(select)

    async def collect(
        self, ids: Iterable[str], needed: Callable[[sqlite3.Connection, Resource], bool]
    ) -> dict[str, int]:
        await self._drop_unleased_ingests()
        digests = [Digest(id) for id in ids]

        def remove(cx: sqlite3.Connection) -> dict[str, int]:
            removed: dict[str, int] = {}
            for digest in digests:
                if not needed(cx, content_resource(digest)):
                    row = cx.execute(
                        "delete from content_blob where digest = ? returning size", (digest,)
                    ).fetchone()
                    if row is not None:
                        removed[digest] = row[0]
            return removed

        async with contextlib.AsyncExitStack() as locks:
            for digest in sorted(digests):
                await locks.enter_async_context(self._locked(digest))
            removed = await self._database.write(remove)
            await asyncio.to_thread(_unlink_all, [self._path(Digest(digest)) for digest in removed])
        return removed

    # -- below the interface

    @contextlib.asynccontextmanager
    async def _locked(self, digest: Digest) -> AsyncIterator[None]:
        """Publishing and deleting the same digest exclude each other, or a new row could lose its old file."""
        lock, users = self._locks.get(digest, (asyncio.Lock(), 0))
        self._locks[digest] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(digest)
            if users > 1:
                self._locks[digest] = (lock, users - 1)

    async def _claim(self, digest: Digest, lease: Lease, key: str) -> bool:
        """Lease the blob if it is there, in one step, so that it can't vanish in between."""
        resource = content_resource(digest)
        self.leases.touch([resource])

        def claim(cx: sqlite3.Connection) -> int | None:
            if cx.execute("select 1 from content_blob where digest = ?", (digest,)).fetchone() is None:
                return None
            self.leases.insert(cx, lease, [resource])
            row = cx.execute("delete from content_ingest where key = ? returning number", (key,)).fetchone()
            return row[0] if row else 0

        number = await self._database.write(claim, durable=False)
        if number:  # somebody else completed what this key had begun
            await asyncio.to_thread(_unlink, self._ingests / str(number))
        return number is not None

    async def _begin(self, key: str, lease: Lease, expected: Digest | None, size: int | None) -> int:
        def insert(cx: sqlite3.Connection) -> int:
            row = cx.execute(
                "select number, expected, size from content_ingest where key = ?", (key,)
            ).fetchone()
            if row is not None and row[1:] != (expected, size):
                # The key now means another blob: its bytes so far are of no use.
                cx.execute("delete from content_ingest where key = ?", (key,))
                row = None
            if row is None:
                values = (key, expected, size, time.time_ns())
                row = cx.execute(
                    "insert into content_ingest (key, expected, size, started_ns) values (?, ?, ?, ?) returning number",
                    values,
                ).fetchone()
            self.leases.insert(cx, lease, [Resource("ingest", key)])
            return int(row[0])

        return await self._database.write(insert, durable=False)

    async def _recover(self) -> None:
        """Drop ingests that no lease keeps, and files without a row: a killed engine's half-done work."""
        await self._drop_unleased_ingests()

        def known(cx: sqlite3.Connection) -> tuple[set[str], set[str]]:
            ingests = {str(row[0]) for row in cx.execute("select number from content_ingest")}
            return ingests, {row[0] for row in cx.execute("select digest from content_blob")}

        await asyncio.to_thread(self._remove_strays, *await self._database.read(known))

    async def _drop_unleased_ingests(self) -> None:
        busy = json.dumps(list(self.active))

        def drop(cx: sqlite3.Connection) -> list[int]:
            rows = cx.execute(
                "delete from content_ingest where key not in (select value from json_each(?)) and not exists"
                " (select 1 from lease_resource where kind = 'ingest' and id = content_ingest.key) returning number",
                (busy,),
            )
            return [row[0] for row in rows]

        numbers = await self._database.write(drop, durable=False)
        await asyncio.to_thread(_unlink_all, [self._ingests / str(number) for number in numbers])

    def _remove_strays(self, ingests: set[str], digests: set[str]) -> None:
        for name in os.listdir(self._ingests):
            if name not in ingests:
                _unlink(self._ingests / name)
        for algorithm in HEX_LENGTH:
            for name in os.listdir(self._blobs / algorithm):
                if f"{algorithm}:{name}" not in digests:
                    _unlink(self._blobs / algorithm / name)

    def _make_directories(self) -> None:
        try:
            self._ingests.mkdir(0o700, parents=True, exist_ok=True)
            for algorithm in HEX_LENGTH:
                (self._blobs / algorithm).mkdir(0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SystemFailure(
                f"cannot make the content store in {self._blobs.parent}: {reason_of(error)}"
            ) from error

    def _open_ingest(self, number: int) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self._ingests / str(number), flags, 0o600)
        except OSError as error:
            raise SystemFailure(f"cannot begin an ingest: {reason_of(error)}") from error

    def _rename_into_place(self, number: int, digest: Digest) -> None:
        target = self._path(digest)
        os.rename(self._ingests / str(number), target)
        # The name too must be on disk before the row that relies on it.
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _path(self, digest: Digest) -> Path:
        return self._blobs / algorithm_of(digest) / encoded_of(digest)


def _info(row: tuple[str, int, int, str]) -> BlobInfo:
    return BlobInfo(Digest(row[0]), row[1], row[2], json.loads(row[3]))


def _insert_references(cx: sqlite3.Connection, digest: Digest, references: list[Resource]) -> None:
    cx.executemany(
        "insert or ignore into content_reference values (?, ?, ?)", [(digest, *each) for each in references]
    )


def _unlink(path: Path) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _unlink_all(paths: list[Path]) -> None:
    for path in paths:
        _unlink(path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
