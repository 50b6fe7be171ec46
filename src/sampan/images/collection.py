"""Freeing what no image, container or lease needs: the roots that images know, and when to collect."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection as Ids

from sampan.content.interface import Resource, content_resource, snapshot_resource
from sampan.errors import NotFound
from sampan.images.parts import Collection, Parts
from sampan.images.unpacking import UNPACK_PREFIX, container_of

log = logging.getLogger(__name__)


class Housekeeping:
    """Runs the collector in the background, one run at a time; requests during a run cause one more."""

    def __init__(self, parts: Parts, collection: Collection) -> None:
        self._parts = parts
        self._collection = collection
        self._wanted = False
        self._task: asyncio.Task[None] | None = None
        collection.add_roots(self.roots)

    async def roots(self) -> list[Resource]:
        """Every image's target, and every writable snapshot: a container's may exist just before the container does."""
        targets = {record.target.digest: record.target for record in await self._parts.records.all()}
        snapshots = await self._parts.snapshots.walk()
        writable = [
            each for each in snapshots if each.kind != "committed" and not each.name.startswith(UNPACK_PREFIX)
        ]
        return [
            *(content_resource(target.checked_digest) for target in targets.values()),
            *(snapshot_resource(each.name) for each in writable),
        ]

    def soon(self) -> None:
        """Collect in the background, because something was removed."""
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="collect images")

    async def settled(self) -> None:
        """Wait until nothing is being collected."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def recover(self, containers: Ids[str]) -> None:
        """At start: end what a killed engine had begun, its leases and the writable snapshots of no container, then collect."""
        leases = self._parts.content.leases
        for lease in await leases.walk():
            if "purpose" in lease.labels:  # one of `hold`, whose block of code died with its engine
                await leases.delete(lease)
        for each in await self._parts.snapshots.walk():
            if each.kind != "committed" and container_of(each.name) not in containers:
                try:
                    await self._parts.snapshots.remove(each.name)
                except NotFound:
                    continue
        self.soon()

    async def close(self) -> None:
        """Stop collecting; what is half done is done again at the next start."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._wanted:
            self._wanted = False
            try:
                await self._collection.run()
            except Exception:
                log.exception("collecting unused images failed; the next removal tries again")
            self._parts.documents.forget()
