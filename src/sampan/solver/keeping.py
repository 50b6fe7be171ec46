"""What results keep from being collected, and which of them are believed after a start. Light: every engine has it, no build is
needed.
"""

from __future__ import annotations

from sampan.content.interface import Resource, content_resource, snapshot_resource
from sampan.names.digest import Digest
from sampan.snapshots.interface import Snapshotter
from sampan.solver.layers import LayerTable
from sampan.solver.records import Records
from sampan.store import Database


class Keeping:
    """The results of all builds, as the engine's other services see them."""

    def __init__(self, database: Database, snapshots: Snapshotter) -> None:
        self.records = Records(database)
        self.layers = LayerTable(database)
        self._snapshots = snapshots

    async def roots(self) -> list[Resource]:
        """For the collector: the results' snapshots, and the blobs of their layers."""
        results = await self.records.every()
        parents = {info.name: info.parent for info in await self._snapshots.walk()}
        wanted: set[str] = set()
        for result in results:
            name = result.snapshot
            while name and name not in wanted:
                wanted.add(name)
                name = parents.get(name, "")
        blobs = await self.layers.blobs(wanted)
        return [
            *(snapshot_resource(result.snapshot) for result in results if result.snapshot),
            *(content_resource(Digest(digest)) for digest in blobs),
        ]

    async def recover(self) -> None:
        """Once at start: believe no result that the disk may not have."""
        await self.records.forget_unsynced()
        await self.layers.forget_others({info.name for info in await self._snapshots.walk()})
