"""How many builds are remembered, and what goes with them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sampan.build import history
from sampan.build.history import HISTORY_SCHEMA, History
from sampan.names.digest import digest_of
from sampan.store import Database


def keeping(directory: Path, work: Callable[[History], Awaitable[None]]) -> None:
    async def run() -> None:
        database = await Database.open(directory / "db", [HISTORY_SCHEMA])
        try:
            await work(History(database))
        finally:
            await database.close()

    asyncio.run(run())


async def refs(table: History) -> list[str]:
    return [row.ref for row in await table.every()]


def test_the_newest_stay_however_old_and_the_others_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "KEPT", 2)

    async def work(table: History) -> None:
        for ref in "abc":
            assert await table.store(ref, b"", []) == []
        monkeypatch.setattr(history, "KEPT_NS", -1)
        await table.pin("a", True)
        assert await table.store("d", b"", []) == ["b"]
        assert await refs(table) == ["a", "c", "d"]

    keeping(tmp_path, work)


def test_there_is_an_end_to_how_many_and_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST", 3)

    async def work(table: History) -> None:
        for ref in "abc":
            await table.store(ref, b"r" * 1000, [])
        assert await table.store("d", b"r" * 1000, []) == ["a"]
        monkeypatch.setattr(history, "MOST_BYTES", 2500)
        assert await table.store("e", b"", []) == ["b"]
        assert await table.store("f", b"x" * 2000, []) == ["d", "c"]

    keeping(tmp_path, work)


def test_blobs_go_with_the_last_record_that_has_them(tmp_path: Path) -> None:
    shared, own = b"shared" * 100, b"own"

    async def work(table: History) -> None:
        await table.store("a", b"1", [shared, own, shared])
        await table.store("b", b"2", [shared])
        assert await table.blob(digest_of(own)) == own
        row = await table.blob_row(digest_of(shared))
        assert row is not None and (row.digest, row.size) == (digest_of(shared), len(shared))
        assert sorted(each.size for each in await table.blob_rows()) == [len(own), len(shared)]
        assert await table.forget("a")
        assert await table.blob(digest_of(own)) is None
        assert await table.blob(digest_of(shared)) == shared
        assert await table.forget("b")
        assert await table.blob_rows() == []
        assert not await table.forget("b")

    keeping(tmp_path, work)
