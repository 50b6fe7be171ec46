"""Layers from somewhere into the engine's stores, each when somebody needs the files above it, and each once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sampan.content.interface import Lease, content_resource, snapshot_resource
from sampan.images.service import ImageService
from sampan.names.names import new_id
from sampan.oci.image import Descriptor, chain_ids
from sampan.registry.copying import Source
from sampan.registry.failures import WrongContent
from sampan.solver.interface import EMPTY, Tree
from sampan.solver.layers import Layer, LayerTable


class LayerIntake:
    """From one source. What comes is verified: bytes by digest, what they unpack to by diff id."""

    def __init__(self, source: Source, images: ImageService, table: LayerTable) -> None:
        self._source = source
        self._images = images
        self._table = table
        self._id = new_id()
        self._fetching: dict[str, asyncio.Lock] = {}

    async def tree(self, layers: Sequence[Layer], lease: Lease) -> Tree:
        """Their files, the lowest first; the lease keeps them. Raises `WrongContent`, and as the source does."""
        for layer in layers:
            await self.fetch(layer, lease)
        chain = chain_ids([layer.diff_id for layer in layers])
        for number, layer in enumerate(layers, start=1):
            await self._images.unpacker.layer(_described(layer), layer.diff_id, chain[:number], lease)
        if not chain:
            return EMPTY
        await self._images.parts.content.leases.add(lease, snapshot_resource(chain[-1]))
        await self._table.store(chain[-1], list(layers))
        return Tree(chain[-1])

    async def fetch(self, layer: Layer, lease: Lease) -> None:
        """Its bytes, unless they are here."""
        content = self._images.parts.content
        descriptor = _described(layer)
        digest = descriptor.checked_digest
        await content.leases.add(lease, content_resource(digest))
        async with self._fetching.setdefault(digest, asyncio.Lock()):
            if not await content.exists(digest):
                await self._take(descriptor, lease)

    async def _take(self, descriptor: Descriptor, lease: Lease) -> None:
        digest = descriptor.checked_digest
        ingest = await self._images.parts.content.ingest(
            f"layer-{digest}-{self._id}", lease=lease, expected=digest, size=descriptor.size
        )
        if ingest is None:
            return
        async with ingest:
            try:
                size = 0
                async for chunk in self._source.blob(descriptor, 0, descriptor.size):
                    size += len(chunk)
                    if size > descriptor.size:
                        raise WrongContent(f"{digest}: more than the {descriptor.size} bytes that it has")
                    await ingest.write(chunk)
                await ingest.commit(digest=digest)
            except BaseException:
                await ingest.abort()
                raise


def _described(layer: Layer) -> Descriptor:
    return Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size)
