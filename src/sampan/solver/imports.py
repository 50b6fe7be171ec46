"""Results from elsewhere for one build: what its client has named to be looked into before something is executed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from sampan.errors import SampanError
from sampan.solver.progress import Progress, WarningEvent

if TYPE_CHECKING:
    from sampan.content.interface import Lease
    from sampan.llb.graph import Vertex
    from sampan.solver.interface import CacheSource, Tree
    from sampan.solver.records import Records


class Imports:
    """See the module. They are read while the build goes on; who needs a key waits for all of them."""

    def __init__(self, records: Records, lease: Lease, progress: Progress) -> None:
        self._records = records
        self._lease = lease
        self._progress = progress
        self._loading: dict[str, asyncio.Task[CacheSource | None]] = {}

    def add(self, name: str, loading: Coroutine[Any, Any, CacheSource | None]) -> None:
        """Look there too. What has the same name is read once; one that cannot be read gives None."""
        if name in self._loading:
            loading.close()
        else:
            self._loading[name] = asyncio.create_task(loading)

    @property
    def wanted(self) -> bool:
        """Whether the client has named any."""
        return bool(self._loading)

    async def sources(self) -> list[CacheSource]:
        """Those that could be read."""
        if not self._loading:
            return []
        found = await asyncio.gather(*(asyncio.shield(each) for each in self._loading.values()))
        return [each for each in found if each is not None]

    async def close(self) -> None:
        """End what is still being read."""
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)

    async def canonical(self, key: str) -> str | None:
        """The canonical key that a key leads to: here, unless only elsewhere there is a result."""
        known = await self._records.canonical(key)
        sources = await self.sources()
        if not sources or (known is not None and await self._records.result(known) is not None):
            return known
        for source in sources:
            there = source.canonical(key) or (key if source.has(key) else None)
            if there is not None and there != known and source.has(there):
                await self._records.lead([key, there], there)
                return there
        if known is not None:
            return known
        return next((lead for source in sources if (lead := source.canonical(key)) is not None), None)

    async def fetched(self, key: str, vertex: Vertex) -> Tree | None:
        """The result under a canonical key, which is one of this engine's from now on.

        None when nobody has it, or (with a warning) does not give it: then it is made.
        """
        for source in await self.sources():
            if not source.has(key):
                continue
            try:
                tree = await source.tree(key, self._lease)
            except SampanError as error:
                short = f"cache of {vertex.name} could not be used: {error}"
                self._progress.publish(WarningEvent(vertex=vertex.digest, short=short))
                continue
            await self._records.store(key, tree.snapshot, "regular", vertex.name)
            return tree
        return None
