"""Builds that were: what `buildx history` lists. The records themselves are BuildKit's messages, which only its face can read.

A record owns its blobs (what the build told, its provenance, the documents of its images): they go with it. Anybody may ask for
one by its digest.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from sampan.names.digest import digest_of
from sampan.store import Database, Schema

HISTORY_SCHEMA = Schema(
    "build_history",
    [
        """
        create table build_history (
            ref text primary key,
            created_ns integer not null,
            pinned integer not null,
            record blob not null,
            told blob not null
        ) strict, without rowid;
        """,
        """
        delete from build_history;
        alter table build_history drop column told;
        create table build_history_blob (
            ref text not null references build_history(ref) on delete cascade,
            digest text not null,
            size integer not null,
            created_ns integer not null,
            packed blob not null,
            primary key (ref, digest)
        ) strict;
        create index build_history_blob_digest on build_history_blob(digest);
        """,
    ],
)

KEPT = 50
"""The newest records that stay however old they are, beside the pinned ones."""
KEPT_NS = 48 * 3600 * 1_000_000_000
"""And how long the others stay: both as BuildKit has it."""
MOST = 1000
MOST_BYTES = 256 << 20
"""Of records and of their blobs, pinned ones included in neither: who builds all day long keeps no more."""


class Row(NamedTuple):
    """One build."""

    ref: str
    pinned: bool
    record: bytes
    """A serialized `BuildHistoryRecord`."""


class BlobRow(NamedTuple):
    """What is known of a blob of a record."""

    digest: str
    size: int
    created_ns: int


class History:
    """The table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def every(self) -> list[Row]:
        """All, oldest first."""
        return await self._database.read(
            lambda cx: [
                Row(ref, bool(pinned), record)
                for ref, pinned, record in cx.execute(
                    "select ref, pinned, record from build_history order by created_ns"
                )
            ]
        )

    async def find(self, ref: str) -> Row | None:
        """One."""
        query = "select ref, pinned, record from build_history where ref = ?"

        def look(connection: sqlite3.Connection) -> Row | None:
            row = connection.execute(query, (ref,)).fetchone()
            return Row(row[0], bool(row[1]), bytes(row[2])) if row else None

        return await self._database.read(look)

    async def store(self, ref: str, record: bytes, blobs: Sequence[bytes]) -> list[str]:
        """A build that has ended, with its blobs. Refs of those that are too old or too many, which are gone now."""
        rows = await asyncio.to_thread(_packed, blobs)
        now = time.time_ns()

        def write(connection: sqlite3.Connection) -> list[str]:
            connection.execute("delete from build_history where ref = ?", (ref,))
            connection.execute("insert into build_history values (?, ?, 0, ?)", (ref, now, record))
            connection.executemany(
                "insert or ignore into build_history_blob values (?, ?, ?, ?, ?)",
                [(ref, digest, size, now, packed) for digest, size, packed in rows],
            )
            gone = _too_many(connection, now)
            connection.executemany("delete from build_history where ref = ?", [(name,) for name in gone])
            return gone

        return await self._database.write(write, durable=False)

    async def blob(self, digest: str) -> bytes | None:
        """One that some record has."""

        def look(connection: sqlite3.Connection) -> bytes | None:
            query = "select packed from build_history_blob where digest = ? limit 1"
            row = connection.execute(query, (digest,)).fetchone()
            return bytes(row[0]) if row else None

        packed = await self._database.read(look)
        return None if packed is None else await asyncio.to_thread(zlib.decompress, packed)

    async def blob_row(self, digest: str) -> BlobRow | None:
        """What is known of it."""
        rows = await self._rows("where digest = ?", (digest,))
        return rows[0] if rows else None

    async def blob_rows(self) -> list[BlobRow]:
        """Of every one, each once."""
        return await self._rows("", ())

    async def _rows(self, where: str, values: tuple[str, ...]) -> list[BlobRow]:
        query = f"select digest, size, min(created_ns) from build_history_blob {where} group by digest, size"
        return await self._database.read(lambda cx: [BlobRow(*row) for row in cx.execute(query, values)])

    async def pin(self, ref: str, pinned: bool) -> bool:
        """Keep it, or no longer. False: there is none of that name."""
        row = (int(pinned), ref)
        return await self._database.write(
            lambda cx: cx.execute("update build_history set pinned = ? where ref = ?", row).rowcount > 0
        )

    async def forget(self, ref: str) -> bool:
        """Remove it. False: there is none of that name."""
        return await self._database.write(
            lambda cx: cx.execute("delete from build_history where ref = ?", (ref,)).rowcount > 0
        )


def _packed(blobs: Sequence[bytes]) -> list[tuple[str, int, bytes]]:
    return [(digest_of(data), len(data), zlib.compress(data, 1)) for data in blobs]


def _too_many(connection: sqlite3.Connection, now: int) -> list[str]:
    rows = connection.execute(
        """
        select ref, created_ns, length(record) + (
            select coalesce(sum(length(packed)), 0) from build_history_blob as blob where blob.ref = build_history.ref
        ) from build_history where pinned = 0 order by created_ns desc
        """
    )
    gone, total = [], 0
    for place, (ref, created_ns, size) in enumerate(rows.fetchall()):
        total += size
        is_old = place >= KEPT and created_ns < now - KEPT_NS
        if is_old or place >= MOST or total > MOST_BYTES:
            gone.append(ref)
    return gone
