"""Room on the disk: held while the database is open, and between two times."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sampan.store import Database, Schema
from sampan.store.reserve import FILE_BYTES, LOG_BYTES, START_BYTES

SCHEMA = Schema("thing", ["create table thing (id integer primary key, data blob) strict;"])


def held(path: Path) -> int:
    """Bytes that a file has on the disk, whatever its size."""
    return path.stat().st_blocks * 512


def test_room_is_held_while_open_and_between(tmp_path: Path) -> None:
    path = tmp_path / "db"
    place = tmp_path / "db-reserve"

    async def use(rows: int) -> None:
        database = await Database.open(path, [SCHEMA])
        assert held(tmp_path / "db-wal") >= LOG_BYTES
        assert not place.exists(), "what the start needs is free"
        await database.settle()
        assert START_BYTES <= held(place) < LOG_BYTES
        for _ in range(rows):  # far more than what was allocated beyond the end at first
            await database.write(
                lambda cx: cx.execute("insert into thing (data) values (zeroblob(50000))"), durable=False
            )
        assert held(path) >= path.stat().st_size + FILE_BYTES / 2
        await database.close()
        assert not (tmp_path / "db-wal").exists()
        assert held(place) >= LOG_BYTES

    asyncio.run(use(0))
    asyncio.run(use(200))
