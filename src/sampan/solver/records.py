"""Results and keys in the database.

`solver_key` leads from any key to the canonical one, and survives the result: a pruned step that comes out the same again is
known as the same. `solver_result` holds what is there: a canonical key and its snapshot. A row is written after the snapshot it
names, and what it names is kept from collection for as long as the row is there. A snapshot that no `syncfs` has followed is
believed within the boot that wrote it only (`boot`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from typing import NamedTuple

from sampan.linux.process import boot_id
from sampan.store import Database, Schema

SOLVER_SCHEMA = Schema(
    "solver",
    [
        """
        create table solver_key (
            key text primary key,
            canonical text not null,
            used_ns integer not null
        ) strict, without rowid;
        create index solver_key_canonical on solver_key (canonical);
        create table solver_result (
            id integer primary key,
            key text not null unique,
            snapshot text not null,
            kind text not null,
            description text not null,
            created_ns integer not null,
            used_ns integer not null,
            uses integer not null,
            boot text not null
        ) strict;
        create index solver_result_snapshot on solver_result (snapshot);
        create table solver_content (
            snapshot text not null,
            selection text not null,
            digest text not null,
            primary key (snapshot, selection)
        ) strict, without rowid;
        create table solver_layer (
            snapshot text primary key,
            layers text not null
        ) strict, without rowid;
        create table solver_directory (
            id text primary key,
            kind text not null,
            name text not null,
            created_ns integer not null,
            used_ns integer not null,
            uses integer not null
        ) strict, without rowid;
        """
    ],
)

_COLUMNS = "id, key, snapshot, kind, description, created_ns, used_ns, uses"


class Result(NamedTuple):
    """A row of `solver_result`."""

    id: int
    key: str
    snapshot: str
    kind: str
    """As BuildKit calls the types of its records: `regular`, `internal`, `frontend`, `source.git.checkout`."""
    description: str
    created_ns: int
    used_ns: int
    uses: int


class Records:
    """The tables."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._canonical: dict[str, str] = {}
        """Of `solver_key`, what was asked for lately."""

    async def canonical(self, key: str) -> str | None:
        """The canonical key that a key leads to."""
        known = self._canonical.get(key)
        if known is not None:
            return known

        def look(connection: sqlite3.Connection) -> str | None:
            row = connection.execute("select canonical from solver_key where key = ?", (key,)).fetchone()
            return str(row[0]) if row else None

        found = await self.database.read(look)
        if found is not None:
            self._remember(key, found)
        return found

    async def lead(self, keys: Iterable[str], canonical: str) -> None:
        """From now on these keys lead to that one."""
        now = time.time_ns()
        rows = [(key, canonical, now) for key in keys if self._canonical.get(key) != canonical]
        if not rows:
            return
        for key, _, _ in rows:
            self._remember(key, canonical)
        await self.database.write(
            lambda cx: cx.executemany("insert or replace into solver_key values (?, ?, ?)", rows),
            durable=False,
        )

    async def result(self, key: str) -> Result | None:
        """What is stored under a canonical key; that it was wanted is noted."""

        def look(connection: sqlite3.Connection) -> Result | None:
            row = connection.execute(f"select {_COLUMNS} from solver_result where key = ?", (key,)).fetchone()
            return Result(*row) if row else None

        return await self.database.read(look)

    async def used(self, ids: Iterable[int]) -> None:
        """These results served a build."""
        now = time.time_ns()
        rows = [(now, id) for id in ids]
        await self.database.write(
            lambda cx: cx.executemany(
                "update solver_result set used_ns = ?, uses = uses + 1 where id = ?", rows
            ),
            durable=False,
        )

    async def store(
        self, key: str, snapshot: str, kind: str, description: str, *, synced: bool = False
    ) -> None:
        """A result, whose snapshot is there."""
        now = time.time_ns()
        row = (key, snapshot, kind, description, now, now, "" if synced else boot_id())
        await self.database.write(
            lambda cx: cx.execute(
                "insert or replace into solver_result (key, snapshot, kind, description, created_ns, used_ns, uses, boot)"
                " values (?, ?, ?, ?, ?, ?, 0, ?)",
                row,
            ),
            durable=False,
        )

    async def every(self) -> list[Result]:
        """All results, oldest first."""
        return await self.database.read(
            lambda cx: [
                Result(*row) for row in cx.execute(f"select {_COLUMNS} from solver_result order by id")
            ]
        )

    async def forget(self, ids: Iterable[int]) -> None:
        """Results that are no longer wanted: their snapshots may be collected once the rows are gone."""
        rows = [(id,) for id in ids]
        await self.database.write(lambda cx: cx.executemany("delete from solver_result where id = ?", rows))

    async def forget_unsynced(self) -> None:
        """At start: what was never synced in an earlier boot, after which the disk may not have it."""
        boot = boot_id()
        await self.database.write(
            lambda cx: cx.execute("delete from solver_result where boot not in ('', ?)", (boot,)),
            durable=False,
        )

    async def unsynced(self) -> int:
        """The newest result that nothing has synced yet, by its id; 0 for none."""
        return await self.database.read(
            lambda cx: int(
                cx.execute("select coalesce(max(id), 0) from solver_result where boot <> ''").fetchone()[0]
            )
        )

    async def synced(self, newest: int) -> None:
        """Everything up to that result has been synced."""
        await self.database.write(
            lambda cx: cx.execute(
                "update solver_result set boot = '' where boot <> '' and id <= ?", (newest,)
            )
        )

    async def content(self, snapshot: str, selection: str) -> str | None:
        """The digest of a part of a snapshot, if it was computed before."""

        def look(connection: sqlite3.Connection) -> str | None:
            row = connection.execute(
                "select digest from solver_content where snapshot = ? and selection = ?",
                (snapshot, selection),
            ).fetchone()
            return str(row[0]) if row else None

        return await self.database.read(look)

    async def store_content(self, snapshot: str, selection: str, digest: str) -> None:
        """Of a committed snapshot, which never changes."""
        row = (snapshot, selection, digest)
        await self.database.write(
            lambda cx: cx.execute("insert or replace into solver_content values (?, ?, ?)", row),
            durable=False,
        )

    def _remember(self, key: str, canonical: str) -> None:
        if len(self._canonical) >= 10_000:
            self._canonical.clear()
        self._canonical[key] = canonical
