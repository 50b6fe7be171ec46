"""The database keeps its promises: order, isolation of faults, durability levels, migrations."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from sampan.errors import SystemFailure
from sampan.store import Database, Schema

T = TypeVar("T")

SCHEMA = Schema("thing", ["create table thing (id integer primary key, name text not null unique) strict;"])


def use(path: Path, work: Callable[[Database], Awaitable[T]], *schemas: Schema) -> T:
    async def run() -> T:
        db = await Database.open(path, schemas or [SCHEMA])
        try:
            return await work(db)
        finally:
            await db.close()

    return asyncio.run(run())


def insert(name: str) -> Callable[[sqlite3.Connection], None]:
    return lambda cx: void(cx.execute("insert into thing (name) values (?)", (name,)))


def void(_: object) -> None:
    return None


def names(cx: sqlite3.Connection) -> list[str]:
    return [row[0] for row in cx.execute("select name from thing order by id")]


def test_a_write_is_visible_to_the_next_read(tmp_path: Path) -> None:
    async def work(db: Database) -> list[str]:
        await db.write(insert("a"))
        return await db.read(names)

    assert use(tmp_path / "db", work) == ["a"]


def test_writes_survive_closing(tmp_path: Path) -> None:
    use(tmp_path / "db", lambda db: db.write(insert("a"), durable=False))
    assert use(tmp_path / "db", lambda db: db.read(names)) == ["a"]


def test_one_fault_in_a_batch_fails_only_its_caller(tmp_path: Path) -> None:
    async def work(db: Database) -> tuple[list[object], list[str]]:
        results = await asyncio.gather(
            *(db.write(insert(name), durable=False) for name in ["a", "b", "a", "c"]), return_exceptions=True
        )
        return list(results), await db.read(names)

    results, stored = use(tmp_path / "db", work)
    assert [isinstance(result, sqlite3.IntegrityError) for result in results] == [False, False, True, False]
    assert sorted(stored) == ["a", "b", "c"]


def test_a_function_that_raises_undoes_its_own_rows(tmp_path: Path) -> None:
    def half(cx: sqlite3.Connection) -> None:
        cx.execute("insert into thing (name) values ('half')")
        raise ValueError("no")

    async def work(db: Database) -> list[str]:
        with pytest.raises(ValueError, match="no"):
            await db.write(half)
        await db.write(insert("whole"))
        return await db.read(names)

    assert use(tmp_path / "db", work) == ["whole"]


def test_reads_cannot_write(tmp_path: Path) -> None:
    async def work(db: Database) -> None:
        with pytest.raises(SystemFailure, match="readonly"):
            await db.read(insert("a"))

    use(tmp_path / "db", work)


def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    second = Schema(
        "thing", [*SCHEMA.migrations, "alter table thing add column size integer not null default 7;"]
    )
    use(tmp_path / "db", lambda db: db.write(insert("a")))
    sizes = use(
        tmp_path / "db",
        lambda db: db.read(lambda cx: cx.execute("select size from thing").fetchall()),
        second,
    )
    assert sizes == [(7,)]
    assert use(tmp_path / "db", lambda db: db.read(names), second) == ["a"]


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    second = Schema("thing", [*SCHEMA.migrations, "create table more (id integer) strict;"])
    use(tmp_path / "db", lambda db: db.read(names), second)
    with pytest.raises(SystemFailure, match="newer than this Sampan"):
        use(tmp_path / "db", lambda db: db.read(names), SCHEMA)


def test_a_failed_migration_leaves_nothing(tmp_path: Path) -> None:
    broken = Schema(
        "thing", ["create table thing (id integer) strict; create table thing (id integer) strict;"]
    )
    with pytest.raises(SystemFailure):
        use(tmp_path / "db", lambda db: db.read(names), broken)
    assert use(tmp_path / "db", lambda db: db.read(names)) == []


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"not a database, surely" * 100)
    with pytest.raises(SystemFailure, match="cannot open the database"):
        use(tmp_path / "db", lambda db: db.read(names))


def test_after_closing_writes_are_refused(tmp_path: Path) -> None:
    async def run() -> None:
        db = await Database.open(tmp_path / "db", [SCHEMA])
        await db.close()
        with pytest.raises(SystemFailure, match="shutting down"):
            await db.write(insert("a"))

    asyncio.run(run())


def test_cancelling_a_waiting_writer_loses_no_write(tmp_path: Path) -> None:
    """Who asked may go away; the writes of others, and the one already queued, stand."""

    async def work(db: Database) -> list[str]:
        task = asyncio.create_task(db.write(insert("left")))
        await asyncio.sleep(0)
        task.cancel()
        await db.write(insert("stays"))
        return await db.read(names)

    assert use(tmp_path / "db", work) == ["left", "stays"]
