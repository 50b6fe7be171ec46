"""Which image a step gave before: by the image it started from and what identifies the step.

A row is written after its image and is believed only while the image exists, so removing images is all there is to forgetting.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Awaitable, Callable

from sampan.errors import SampanError
from sampan.images.interface import ResolvedImage
from sampan.store import Database, Schema

BUILD_SCHEMA = Schema(
    "build",
    [
        """
        create table build_step (
            parent text not null,
            step text not null,
            image text not null,
            used_ns integer not null,
            primary key (parent, step)
        ) strict, without rowid;
        """
    ],
)

Resolve = Callable[[str], Awaitable[ResolvedImage]]


class StepCache:
    """The table of steps."""

    def __init__(self, database: Database, resolve: Resolve) -> None:
        self._database = database
        self._resolve = resolve

    async def find(self, parent: str, step: str) -> ResolvedImage | None:
        """The image that `step` on image `parent` gave, if it is still there."""
        key = _key(step)

        def look(connection: sqlite3.Connection) -> str:
            row = connection.execute(
                "select image from build_step where parent = ? and step = ?", (parent, key)
            ).fetchone()
            return str(row[0]) if row else ""

        image = await self._database.read(look)
        if not image:
            return None
        try:
            return await self._resolve(image)
        except SampanError:
            await self.forget(parent, step)
            return None

    async def store(self, parent: str, step: str, image: str) -> None:
        """Remember that `step` on `parent` gives `image`, which is stored by now."""
        row = (parent, _key(step), image, time.time_ns())
        await self._database.write(
            lambda connection: connection.execute(
                "insert or replace into build_step values (?, ?, ?, ?)", row
            ),
            durable=False,
        )

    async def forget(self, parent: str, step: str) -> None:
        """No longer believe a row."""
        await self._database.write(
            lambda connection: connection.execute(
                "delete from build_step where parent = ? and step = ?", (parent, _key(step))
            ),
            durable=False,
        )

    async def clear(self) -> None:
        """Forget everything: every step runs again."""
        await self._database.write(lambda connection: connection.execute("delete from build_step"))


def _key(step: str) -> str:
    return hashlib.sha256(step.encode(errors="surrogateescape")).hexdigest()
