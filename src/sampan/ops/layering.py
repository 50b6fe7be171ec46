"""A result's layers: each snapshot against the one below it, as a blob, made once."""

from __future__ import annotations

import asyncio

from sampan.content.interface import ContentStore, Lease, content_resource
from sampan.errors import NotSupported
from sampan.names.digest import Digest
from sampan.oci.image import OCI_LAYER
from sampan.ops.trees import Trees
from sampan.snapshots.interface import Snapshotter
from sampan.solver.interface import Tree
from sampan.solver.layers import Layer, LayerTable


class Layering:
    """Makes layers. One per engine: what is being made is made once."""

    def __init__(self, trees: Trees, content: ContentStore, table: LayerTable) -> None:
        self._trees = trees
        self._content = content
        self._table = table
        self._making: dict[str, asyncio.Lock] = {}

    @property
    def _snapshots(self) -> Snapshotter:
        return self._trees.snapshots

    async def layers(self, tree: Tree, lease: Lease) -> list[Layer]:
        """The layers of a result, lowest first; their blobs are there, and in the lease."""
        if tree.directory:
            raise NotSupported("a client's directory as an image")
        return await self._of(tree.snapshot, lease) if tree.snapshot else []

    async def _of(self, snapshot: str, lease: Lease) -> list[Layer]:
        """Snapshots that lack a row lie above those that have one: from there up they are made."""
        missing: list[str] = []
        found: list[Layer] = []
        for name in await self._snapshots.chain(snapshot):
            known = await self._known(name, lease)
            if known is not None:
                found = known
                break
            missing.append(name)
        made = await asyncio.gather(
            *(self._once(name, lease) for name in reversed(missing)), return_exceptions=True
        )
        for name, layer in zip(reversed(missing), made, strict=True):
            if isinstance(layer, BaseException):
                raise layer
            found = [*found, layer]
            await self._table.store(name, found)
        return found

    async def _once(self, snapshot: str, lease: Lease) -> Layer:
        """A snapshot's difference; who asks while it is made has the same."""
        async with self._making.setdefault(snapshot, asyncio.Lock()):
            known = await self._known(snapshot, lease)
            layer = known[-1] if known else await self._difference(snapshot, lease)
        self._making.pop(snapshot, None)
        return layer

    async def _known(self, snapshot: str, lease: Lease) -> list[Layer] | None:
        layers = await self._table.find(snapshot)
        if layers is None:
            return None
        await self._content.leases.add(lease, *(content_resource(Digest(each.digest)) for each in layers))
        for each in layers:
            if not await self._content.exists(Digest(each.digest)):
                return None
        return layers

    async def _difference(self, snapshot: str, lease: Lease) -> Layer:
        target = await self._snapshots.apply_target(snapshot)
        ingest = await self._content.ingest(f"layer-{snapshot}-{lease.id}", lease=lease)
        assert ingest is not None  # the digest is not known, so nothing can be there already
        async with ingest:
            try:
                result = await self._trees.workers.run(
                    "sampan.archive.diff:diff_job", target.job_args(), fds=[ingest.fileno()]
                )
                info = await ingest.commit(digest=Digest(result["digest"]), verified=True)
            except BaseException:
                await ingest.abort()
                raise
        created = (await self._snapshots.stat(snapshot)).created_ns
        return Layer(info.digest, OCI_LAYER, info.size, str(result["diff_id"]), created)
