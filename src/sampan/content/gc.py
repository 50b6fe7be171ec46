"""Collection: finding and removing what neither an image, a container, a build nor a lease needs.

Mark and sweep over resources of all kinds. Roots come from whoever knows them (images, containers, the build cache:
`add_roots`) and from the leases; edges from the stores themselves (`collect_candidates`). The sweep removes a
resource only if, in the very transaction that deletes its row, nothing leases it, nothing that still exists refers to
it, and nobody asked for it since the marking began. So users need no lock against the collector: a lease first, then
a look whether the thing is there.

Example::

    collector = Collector(database, leases, [content, snapshots])
    collector.add_roots(images.roots)
    freed = await collector.run()
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from sampan.content.interface import Resource

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Iterable

    from sampan.content.interface import Collectable
    from sampan.content.leases import LocalLeases
    from sampan.store import Database

    RootSource = Callable[[], Awaitable[Iterable[Resource]]]


class Collected(NamedTuple):
    """What a collection did."""

    bytes: int
    removed: list[Resource]


class Collector:
    """The collector of one engine. `stores` in order: referrers before what they refer to (content, snapshots)."""

    def __init__(self, database: Database, leases: LocalLeases, stores: list[Collectable]) -> None:
        self._database = database
        self._leases = leases
        self._stores = stores
        self._roots: list[RootSource] = []
        self._running = asyncio.Lock()

    def add_roots(self, source: RootSource) -> None:
        """Ask this too, at every run, for resources that must stay."""
        self._roots.append(source)

    async def run(self) -> Collected:
        """Collect once; a second caller waits for the first to end and then collects again."""
        async with self._running:
            await self._leases.expire()
            with self._leases.record_touched() as touched:
                garbage, edges = await self._find_garbage()
                return await self._sweep(garbage, edges, touched)

    async def _find_garbage(self) -> tuple[set[Resource], dict[Resource, list[Resource]]]:
        edges: dict[Resource, list[Resource]] = {}
        for store in self._stores:
            for id, references in (await store.collect_candidates()).items():
                edges[Resource(store.kind, id)] = [Resource(*each) for each in references]
        # Leases before roots: what moves from a lease to a root meanwhile is seen in one of the two.
        rows = await self._database.read(
            lambda cx: cx.execute("select kind, id from lease_resource").fetchall()
        )
        grey = [Resource(*row) for row in rows]
        for source in self._roots:
            grey.extend(await source())
        marked: set[Resource] = set()
        while grey:
            resource = grey.pop()
            if resource not in marked:
                marked.add(resource)
                grey.extend(edges.get(resource, ()))
        return edges.keys() - marked, edges

    async def _sweep(
        self, garbage: set[Resource], edges: dict[Resource, list[Resource]], touched: set[Resource]
    ) -> Collected:
        def needed(cx: sqlite3.Connection, resource: Resource) -> bool:
            return resource in touched or _is_referred_to(cx, resource)

        freed = 0
        removed: list[Resource] = []
        for store in self._stores:
            ids = [each.id for each in _referrers_first(garbage, edges) if each.kind == store.kind]
            for id, size in (await store.collect(ids, needed)).items():
                freed += size
                removed.append(Resource(store.kind, id))
        return Collected(freed, removed)


def _is_referred_to(cx: sqlite3.Connection, resource: Resource) -> bool:
    query = (
        "select exists (select 1 from lease_resource where kind = :kind and id = :id)"
        " or exists (select 1 from content_reference where kind = :kind and id = :id)"
    )
    return bool(cx.execute(query, dict(zip(("kind", "id"), resource, strict=True))).fetchone()[0])


def _referrers_first(garbage: set[Resource], edges: dict[Resource, list[Resource]]) -> list[Resource]:
    """Topological order, so that each removal takes away the last reference to the next."""
    order: list[Resource] = []
    seen: set[Resource] = set()
    for start in sorted(garbage):
        stack = [(start, False)]
        while stack:
            resource, done = stack.pop()
            if done:
                order.append(resource)
            elif resource not in seen:
                seen.add(resource)
                stack.append((resource, True))
                stack.extend((each, False) for each in edges.get(resource, ()) if each in garbage)
    return order[::-1]
