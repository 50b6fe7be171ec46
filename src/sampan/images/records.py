"""The table of images: names that point at targets.

A record is a canonical reference (`docker.io/library/busybox:latest`) and the descriptor of a manifest or
index. An image whose last name went elsewhere or away is kept by a *dangling* record, whose name no user can
type; it goes as soon as the image has a name.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from sampan.names.digest import Digest
from sampan.names.reference import Reference, parse_normalized
from sampan.oci.image import Descriptor
from sampan.store import Database, Schema

IMAGES_SCHEMA = Schema(
    "images",
    [
        """
        create table image (
            name text primary key,
            digest text not null,
            target text not null,
            created_ns integer not null,
            updated_ns integer not null,
            labels text not null
        ) strict;
        create index image_digest on image (digest);
        """
    ],
)

LABEL_PARENT = "org.mobyproject.image.parent"
"""Id of the image that this one was committed from."""

_REMEMBERED = 256
"""Questions whose answers are kept."""

_DANGLING = "moby-dangling@"


class ImageRecord(NamedTuple):
    """One name of one image."""

    name: str
    target: Descriptor
    created_ns: int
    updated_ns: int
    """When the name last changed its target."""
    labels: Mapping[str, str]

    @property
    def id(self) -> str:
        """The image's Id."""
        return self.target.digest

    @property
    def is_dangling(self) -> bool:
        return self.name.startswith(_DANGLING)

    def reference(self) -> Reference:
        """The name parsed; not for dangling records."""
        return parse_normalized(self.name)

    def familiar(self) -> str:
        """The name as users read it; a dangling record's is the image's id."""
        return self.id if self.is_dangling else self.reference().familiar()


class Replaced(NamedTuple):
    """What `put` found in its way."""

    previous: ImageRecord | None
    """The record that had the name before, with another target."""


def dangling_name(digest: str) -> str:
    """The name of the record that keeps an image without names."""
    return _DANGLING + digest


class ImageRecords:
    """Reads and durable writes of the table.

    Answers are remembered until the next write: each `docker run` asks twice, and a visit to the database's thread costs 0.3 ms.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: dict[tuple[str, ...], list[ImageRecord]] = {}
        self._writes = 0

    async def get(self, name: str) -> ImageRecord | None:
        """The record of a canonical name."""
        found = await self._select("where name = ?", name)
        return found[0] if found else None

    async def of(self, digest: str) -> list[ImageRecord]:
        """All records of an image, by name."""
        return await self._select("where digest = ? order by name", digest)

    async def with_prefix(self, prefix: str) -> list[ImageRecord]:
        """The records whose digest begins so (`sha256:ab12`)."""
        return await self._select("where digest >= ? and digest < ? order by name", prefix, prefix + "g")

    async def all(self) -> list[ImageRecord]:
        """Every record, by name."""
        return await self._select("order by name")

    async def put(self, name: str, target: Descriptor, labels: Mapping[str, str] | None = None) -> Replaced:
        """Point the name at the target, durably.

        The image that had the name and no other one stays as a dangling image; a dangling record of the new target goes.
        """
        now = time.time_ns()
        row = (
            name,
            target.digest,
            msgspec.json.encode(target).decode(),
            now,
            now,
            msgspec.json.encode(labels or {}).decode(),
        )
        with self._changing():
            # What a name means already is durable; that it was given again is not worth a wait for the disk.
            return await self._database.write(lambda cx: _put(cx, row), durable=not await self._is(row))

    async def _is(self, row: tuple[str, str, str, int, int, str]) -> bool:
        name, _, target, _, _, labels = row
        query = "select 1 from image where name = ? and target = ? and labels = ?"
        return bool(
            await self._database.read(lambda cx: cx.execute(query, (name, target, labels)).fetchone())
        )

    async def delete(self, names: Iterable[str]) -> None:
        """Remove records, durably and all at once. What they named is left to collection."""
        rows = [(name,) for name in names]
        with self._changing():
            await self._database.write(lambda cx: cx.executemany("delete from image where name = ?", rows))

    async def replace_by_dangling(self, record: ImageRecord) -> None:
        """Take the image's name away and keep the image."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("delete from image where name = ?", (record.name,))
            _insert_dangling(connection, record)

        with self._changing():
            await self._database.write(write)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Forget before a write and after it: what was read meanwhile may be the old or the new."""
        self._forget()
        try:
            yield
        finally:
            self._forget()

    def _forget(self) -> None:
        self._writes += 1
        self._remembered.clear()

    async def _select(self, condition: str, *values: str) -> list[ImageRecord]:
        key = (condition, *values)
        known = self._remembered.get(key)
        if known is not None:
            return list(known)
        query = f"select name, target, created_ns, updated_ns, labels from image {condition}"
        writes = self._writes
        rows = await self._database.read(lambda cx: cx.execute(query, values).fetchall())
        found = [_record(row) for row in rows]
        if self._writes == writes:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = found
        return list(found)


def _record(row: tuple[str, str, int, int, str]) -> ImageRecord:
    name, target, created, updated, labels = row
    return ImageRecord(
        name,
        msgspec.json.decode(target, type=Descriptor),
        created,
        updated,
        msgspec.json.decode(labels, type=dict[str, str]),
    )


def _put(connection: sqlite3.Connection, row: tuple[str, str, str, int, int, str]) -> Replaced:
    name, digest = row[:2]
    found = connection.execute(
        "select name, target, created_ns, updated_ns, labels from image where name = ?", (name,)
    ).fetchone()
    previous = _record(found) if found else None
    connection.execute("insert or replace into image values (?, ?, ?, ?, ?, ?)", row)
    if name != dangling_name(digest):
        connection.execute("delete from image where name = ?", (dangling_name(digest),))
    if previous is None or previous.id == digest:
        return Replaced(None)
    if not connection.execute("select 1 from image where digest = ?", (previous.id,)).fetchone():
        _insert_dangling(connection, previous)
    return Replaced(previous)


def _insert_dangling(connection: sqlite3.Connection, record: ImageRecord) -> None:
    connection.execute(
        "insert or ignore into image values (?, ?, ?, ?, ?, ?)",
        (
            dangling_name(Digest(record.id)),
            record.id,
            msgspec.json.encode(record.target).decode(),
            record.created_ns,
            record.updated_ns,
            msgspec.json.encode(dict(record.labels)).decode(),
        ),
    )
