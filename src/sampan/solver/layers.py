"""A result as an image's layers: which blobs its snapshots are, as far as that is known.

A row holds all layers of a snapshot, from the lowest: of an image's, as its manifest has them; of a step's, those of the one
before it and one of its own, which is made when somebody exports it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sampan.store import Database


class Layer(NamedTuple):
    """One layer: a blob in the content store, and the digest of its archive without compression."""

    digest: str
    media_type: str
    size: int
    diff_id: str
    created_ns: int = 0
    """When the step was made that it is of; 0 for one of an image, whose history says it."""


class LayerTable:
    """The rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, snapshot: str) -> list[Layer] | None:
        """All layers of a snapshot; None when not known."""

        def look(connection: sqlite3.Connection) -> str | None:
            row = connection.execute(
                "select layers from solver_layer where snapshot = ?", (snapshot,)
            ).fetchone()
            return str(row[0]) if row else None

        text = await self._database.read(look)
        return None if text is None else _read(text)

    async def store(self, snapshot: str, layers: Sequence[Layer]) -> None:
        """Say what a snapshot is made of."""
        row = (snapshot, json.dumps(layers))
        await self._database.write(
            lambda cx: cx.execute("insert or replace into solver_layer values (?, ?)", row), durable=False
        )

    async def blobs(self, snapshots: Collection[str]) -> set[str]:
        """The blobs of all those snapshots."""

        def look(connection: sqlite3.Connection) -> set[str]:
            rows = connection.execute("select snapshot, layers from solver_layer")
            return {layer.digest for name, text in rows if name in snapshots for layer in _read(text)}

        return await self._database.read(look)

    async def forget_others(self, snapshots: Collection[str]) -> None:
        """Only those snapshots are left."""

        def forget(connection: sqlite3.Connection) -> None:
            for table in ("solver_layer", "solver_content"):
                names = [row[0] for row in connection.execute(f"select distinct snapshot from {table}")]
                gone = [(name,) for name in names if name not in snapshots]
                connection.executemany(f"delete from {table} where snapshot = ?", gone)

        await self._database.write(forget, durable=False)


def _read(text: str) -> list[Layer]:
    return [Layer(*each) for each in json.loads(text)]
