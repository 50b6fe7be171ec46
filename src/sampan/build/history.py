"""Builds that were: what `buildx history` lists. The records themselves are BuildKit's messages, which only its face can read."""

from __future__ import annotations

import sqlite3
import time
from typing import NamedTuple

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
        """
    ],
)

KEPT = 50
"""Records beside the pinned ones, and how long they are kept: BuildKit's own defaults."""
KEPT_NS = 48 * 3600 * 1_000_000_000


class Row(NamedTuple):
    """One build."""

    ref: str
    pinned: bool
    record: bytes
    """A serialized `BuildHistoryRecord`."""


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

    async def told(self, ref: str) -> bytes | None:
        """What that build told while it ran."""

        def look(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute("select told from build_history where ref = ?", (ref,)).fetchone()
            return bytes(row[0]) if row else None

        return await self._database.read(look)

    async def store(self, ref: str, record: bytes, told: bytes) -> list[str]:
        """A build that has ended. Refs of those that are too old or too many, which are gone now."""
        now = time.time_ns()

        def write(connection: sqlite3.Connection) -> list[str]:
            connection.execute(
                "insert or replace into build_history values (?, ?, 0, ?, ?)", (ref, now, record, told)
            )
            rows = connection.execute(
                "select ref, created_ns from build_history where pinned = 0 order by created_ns desc"
            ).fetchall()
            gone = [name for place, (name, at) in enumerate(rows) if place >= KEPT or at < now - KEPT_NS]
            connection.executemany("delete from build_history where ref = ?", [(name,) for name in gone])
            return gone

        return await self._database.write(write, durable=False)

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
