"""Directories that stay between builds: those that clients' files are sent into, and cache mounts."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.names.names import new_id
from sampan.store import Database

if TYPE_CHECKING:
    from sampan.solver.build import Build


class Directories:
    """Directories that stay between builds, by kind and name. Each has one user at a time; who comes meanwhile gets a fresh one."""

    def __init__(self, database: Database, root: Path) -> None:
        self._database = database
        self.root = root
        self._used: Counter[str] = Counter()
        self._versions: dict[Path, int] = {}
        self._newest = 0

    @classmethod
    async def open(cls, database: Database, root: Path) -> Directories:
        """In `root`; what no row names is removed."""
        directories = cls(database, root)
        known = {row[0] for row in await directories.every()}
        await asyncio.to_thread(directories._sweep, known)
        return directories

    async def borrow(self, kind: str, name: str, build: Build) -> Path:
        """The directory until the build's end, with what was left in it."""
        id, path = await self.take(kind, name)

        async def give_back() -> None:
            self.give_back(id)

        build.at_end(give_back)
        return path

    async def take(self, kind: str, name: str) -> tuple[str, Path]:
        """The directory (id, path) until `give_back`."""
        found = await self._database.write(lambda cx: self._claim(cx, kind, name), durable=False)
        if found is not None:
            return found, self.root / found
        id = new_id()
        self._used[id] += 1
        await asyncio.to_thread(_make, self.root / id)
        now = time.time_ns()
        row = (id, kind, name, now, now)
        await self._database.write(
            lambda cx: cx.execute("insert into solver_directory values (?, ?, ?, ?, ?, 0)", row),
            durable=False,
        )
        return id, self.root / id

    def _claim(self, connection: sqlite3.Connection, kind: str, name: str) -> str | None:
        """The oldest that nobody uses, used from now on. All of this runs in the one thread that writes."""
        rows = connection.execute(
            "select id from solver_directory where kind = ? and name = ? order by created_ns", (kind, name)
        )
        id = next((str(row[0]) for row in rows if row[0] not in self._used), None)
        if id is not None:
            self._used[id] += 1
            connection.execute(
                "update solver_directory set used_ns = ?, uses = uses + 1 where id = ?", (time.time_ns(), id)
            )
        return id

    def about_to_change(self, path: Path) -> int:
        """What is in a borrowed directory is not known until `filled`; the version that it has had."""
        return self._versions.pop(path, 0)

    def filled(self, path: Path, before: int, *, unchanged: bool) -> int:
        """It is complete; its version, which is the one before when nothing in it has changed."""
        if not unchanged or not before:
            self._newest += 1
            before = self._newest
        self._versions[path] = before
        return before

    async def share(self, kind: str, name: str) -> tuple[str, Path]:
        """The directory (id, path) of that name, whoever else uses it, until `give_back`."""
        found = await self._named(kind, name)
        if not found:
            return await self.take(kind, name)
        id = str(found[0][0])
        self._used[id] += 1
        await self._note_use(id)
        return id, self.root / id

    def give_back(self, id: str) -> None:
        """One user less."""
        self._used[id] -= 1
        if not self._used[id]:
            del self._used[id]

    def is_used(self, id: str) -> bool:
        """Whether a build has it now."""
        return id in self._used

    def path(self, id: str) -> Path:
        """Where it is."""
        return self.root / id

    async def every(self) -> list[tuple[str, str, str, int, int, int]]:
        """All: (id, kind, name, created, used, uses)."""
        return await self._database.read(
            lambda cx: list(
                cx.execute("select id, kind, name, created_ns, used_ns, uses from solver_directory")
            )
        )

    async def remove(self, id: str) -> None:
        """The row first, then the files."""
        self._versions.pop(self.root / id, None)
        await self._database.write(lambda cx: cx.execute("delete from solver_directory where id = ?", (id,)))
        await asyncio.to_thread(shutil.rmtree, self.root / id, True)

    async def _named(self, kind: str, name: str) -> list[tuple[str]]:
        def look(connection: sqlite3.Connection) -> list[tuple[str]]:
            return connection.execute(
                "select id from solver_directory where kind = ? and name = ? order by created_ns",
                (kind, name),
            ).fetchall()

        return await self._database.read(look)

    async def _note_use(self, id: str) -> None:
        row = (time.time_ns(), id)
        await self._database.write(
            lambda cx: cx.execute(
                "update solver_directory set used_ns = ?, uses = uses + 1 where id = ?", row
            ),
            durable=False,
        )

    def _sweep(self, known: set[str]) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for entry in self.root.iterdir():
            if entry.name not in known:
                shutil.rmtree(entry, ignore_errors=True)


def _make(path: Path) -> None:
    path.mkdir(mode=0o755)
    path.chmod(0o755)
