"""Leases in the database: what the collector must not take yet. See `sampan.content.interface` for the idea."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from typing import TYPE_CHECKING

from sampan.content.interface import Lease, Resource
from sampan.errors import Conflict, NotFound

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from sampan.store import Database

HOLD_EXPIRY = 24 * 3600.0
"""Seconds after which a lease of `hold` ends by itself: the engine died in the middle and nobody came back."""


class LocalLeases:
    """The `Leases` of one database. All additions of an engine go through one object of this class."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._touched: set[Resource] | None = None

    async def create(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        expires_in: float | None = None,
        id: str | None = None,
    ) -> Lease:
        now = time.time_ns()
        expires = None if expires_in is None else now + int(expires_in * 1e9)
        lease = Lease(id or secrets.token_hex(16), now, expires, dict(labels or {}))

        def insert(cx: sqlite3.Connection) -> None:
            row = (lease.id, lease.created_ns, lease.expires_ns, json.dumps(lease.labels))
            if cx.execute("insert or ignore into lease values (?, ?, ?, ?)", row).rowcount == 0:
                raise Conflict(f'lease "{lease.id}": already exists')

        await self._database.write(insert, durable=False)
        return lease

    @contextlib.asynccontextmanager
    async def hold(self, purpose: str) -> AsyncIterator[Lease]:
        lease = await self.create(labels={"purpose": purpose}, expires_in=HOLD_EXPIRY)
        try:
            yield lease
        finally:
            await self.delete(lease)

    async def add(self, lease: Lease, *resources: Resource) -> None:
        self.touch(resources)
        await self._database.write(lambda cx: self.insert(cx, lease, resources), durable=False)

    async def resources(self, lease: Lease) -> list[Resource]:
        query = "select kind, id from lease_resource where lease = ? order by kind, id"
        rows = await self._database.read(lambda cx: cx.execute(query, (lease.id,)).fetchall())
        return [Resource(*row) for row in rows]

    async def walk(self) -> list[Lease]:
        query = "select id, created_ns, expires_ns, labels from lease order by created_ns"
        rows = await self._database.read(lambda cx: cx.execute(query).fetchall())
        return [Lease(id, created, expires, json.loads(labels)) for id, created, expires, labels in rows]

    async def delete(self, lease: Lease) -> None:
        await self._database.write(
            lambda cx: cx.execute("delete from lease where id = ?", (lease.id,)), durable=False
        )

    async def expire(self) -> None:
        """End the leases whose time has come."""
        now = time.time_ns()
        await self._database.write(
            lambda cx: cx.execute("delete from lease where expires_ns <= ?", (now,)), durable=False
        )

    def insert(self, cx: sqlite3.Connection, lease: Lease, resources: Iterable[Resource]) -> None:
        """`add` inside somebody else's transaction; `touch` comes before it. Raises NotFound."""
        if cx.execute("select 1 from lease where id = ?", (lease.id,)).fetchone() is None:
            raise NotFound(f'lease "{lease.id}": not found')
        cx.executemany(
            "insert or ignore into lease_resource values (?, ?, ?)", [(lease.id, *each) for each in resources]
        )

    def touch(self, resources: Iterable[Resource]) -> None:
        """Tell a running collection that these are wanted, even should their lease end before its sweep."""
        if self._touched is not None:
            self._touched.update(resources)

    @contextlib.contextmanager
    def record_touched(self) -> Iterator[set[Resource]]:
        """While the collector runs: the resources that were added to any lease since, as they are added."""
        self._touched = set()
        try:
            yield self._touched
        finally:
            self._touched = None
