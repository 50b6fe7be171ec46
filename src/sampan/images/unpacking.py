"""Layers become snapshots, once however many ask; a container gets a writable one on top.

The committed snapshot of a layer is named by its chain id, so images with the same lower layers share them.
While layers are being unpacked a lease keeps them; afterwards the image's config refers to the snapshot of
its top layer, and so does the collector.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sampan.content.interface import Lease, snapshot_resource
from sampan.errors import Conflict, DataLoss, InvalidParameter, NotFound
from sampan.faults import point
from sampan.images.interface import ResolvedImage
from sampan.images.parts import Parts
from sampan.images.scaffold import scaffold_name
from sampan.oci.image import Descriptor, ImageConfig, Manifest, chain_ids

if TYPE_CHECKING:
    from sampan.oci.runtime import Mount

LAYERS_MAX = 127
"""Layers that an image may have: what overlayfs and dockerd can stack."""

UNPACK_PREFIX = "unpack-"
"""Keys of snapshots that are being unpacked begin so; those of containers are their ids."""
_VIEW = ".image-"


def view_key(container_id: str, number: int) -> str:
    """The key of a read-only snapshot of an image that a container mounts."""
    return f"{container_id}{_VIEW}{number}"


def container_of(key: str) -> str:
    """The container that an active snapshot or view belongs to."""
    return key.partition(_VIEW)[0]


EXPANSION_FREE = 16 << 30
EXPANSION_MAX = 300
"""A layer may unpack to EXPANSION_FREE bytes, and to EXPANSION_MAX more for each byte of the blob; beyond that it is a bomb."""

Progress = Callable[[Descriptor, int], None]
"""Told of a layer and the bytes of it that have been unpacked so far."""


class Unpacker:
    """Unpacks images. One per engine: the locks are its own."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    async def ensure(
        self, manifest: Manifest, config: ImageConfig, lease: Lease, progress: Progress | None = None
    ) -> str:
        """Unpack what is not yet unpacked; the name of the top snapshot ("" for an image without layers).

        The snapshots are in `lease` from before they are made. Raises `InvalidParameter` when config and layers disagree or a
        layer is refused (the message names the entry), `DataLoss` when content is damaged.
        """
        diff_ids = config.rootfs.diff_ids
        layers = manifest.layers
        if len(diff_ids) != len(layers):
            raise InvalidParameter(
                f"image has {len(layers)} layers in its manifest and {len(diff_ids)} in its config"
            )
        if len(layers) > LAYERS_MAX:
            raise InvalidParameter("max depth exceeded")
        chain: list[str] = list(chain_ids(diff_ids))
        if not chain:
            return ""
        await self._parts.content.leases.add(lease, *(snapshot_resource(name) for name in chain))
        if not await self.is_unpacked(chain[-1]):
            for number, (layer, diff_id) in enumerate(zip(layers, diff_ids, strict=True), start=1):
                await self.layer(layer, diff_id, chain[:number], lease, progress)
        await self._parts.content.add_references(
            manifest.config.checked_digest, [snapshot_resource(chain[-1])]
        )
        return chain[-1]

    async def layer(
        self,
        layer: Descriptor,
        diff_id: str,
        chain: Sequence[str],
        lease: Lease,
        progress: Progress | None = None,
    ) -> None:
        """Unpack one layer, unless it is, onto the layers below it; `chain` names their snapshots and, last, its own."""
        parent, name = (chain[-2] if len(chain) > 1 else ""), chain[-1]
        await self._parts.content.leases.add(lease, snapshot_resource(name))
        async with self._only_one(name):
            if not await self.is_unpacked(name):
                key = UNPACK_PREFIX + name
                async with self._applied(layer, key, parent, lease, progress) as found:
                    if found != diff_id:
                        raise DataLoss(
                            f"layer {layer.digest} unpacks to {found}, but the image says {diff_id}"
                        )
                    point("unpack.applied")
                    await self._parts.snapshots.commit(name, key)

    async def base_layer(self, layer: Descriptor, lease: Lease) -> str:
        """Unpack a layer that stands on nothing and whose diff id is not known; its diff id, which names its snapshot too."""
        key = UNPACK_PREFIX + layer.digest
        async with self._only_one(key), self._applied(layer, key, "", lease, None) as diff_id:
            await self._parts.content.leases.add(lease, snapshot_resource(diff_id))
            if await self.is_unpacked(diff_id):
                await self._discard(key)
            else:
                await self._parts.snapshots.commit(diff_id, key)
            return diff_id

    async def prepare_rootfs(self, container_id: str, image: ResolvedImage) -> list[Mount]:
        """See `interface.Images.prepare_rootfs`."""
        snapshots = self._parts.snapshots
        base = scaffold_name(image.chain_id)
        try:
            # The usual case: unpacked already. The insertion itself checks that the layers are there, and a snapshot
            # with a child is never collected: no lease is needed.
            return await snapshots.prepare(container_id, base)
        except NotFound:
            pass
        except Conflict:
            return await snapshots.mounts(container_id)
        async with self._parts.content.leases.hold(f"rootfs of {container_id}") as lease:
            await self.ensure(image.manifest, image.config, lease)
            await self._scaffold(image, lease)
            try:
                return await snapshots.prepare(container_id, base)
            except Conflict:
                return await snapshots.mounts(container_id)

    async def prepare_view(self, key: str, image: ResolvedImage) -> list[Mount]:
        """See `interface.Images.prepare_view`."""
        snapshots = self._parts.snapshots
        async with self._parts.content.leases.hold(f"view {key}") as lease:
            await self.ensure(image.manifest, image.config, lease)
            try:
                return await snapshots.view(key, image.chain_id)
            except Conflict:
                return await snapshots.mounts(key)

    async def _scaffold(self, image: ResolvedImage, lease: Lease) -> None:
        """Make the snapshot that the image's containers stand on, unless it is there; it stays as long as the image."""
        snapshots, content = self._parts.snapshots, self._parts.content
        name = scaffold_name(image.chain_id)
        key = UNPACK_PREFIX + name
        await content.leases.add(lease, snapshot_resource(name), snapshot_resource(key))
        async with self._only_one(name):
            if not await self.is_unpacked(name):
                await self._discard(key)  # left by an engine that was killed
                await snapshots.prepare(key, image.chain_id)
                try:
                    target = await snapshots.apply_target(key)
                    await self._parts.workers.run("sampan.images.scaffold:scaffold_job", target.job_args())
                    await snapshots.commit(name, key)
                except BaseException:
                    await asyncio.shield(self._discard(key))
                    raise
        await content.add_references(image.manifest.config.checked_digest, [snapshot_resource(name)])

    async def release_rootfs(self, container_id: str) -> None:
        """See `interface.Images.release_rootfs`."""
        try:
            await self._parts.snapshots.remove(container_id)
        except NotFound:
            return

    async def is_unpacked(self, name: str) -> bool:
        """Whether the snapshot of that chain id is there."""
        try:
            return (await self._parts.snapshots.stat(name)).kind == "committed"
        except NotFound:
            return False

    @asynccontextmanager
    async def _applied(
        self, layer: Descriptor, key: str, parent: str, lease: Lease, progress: Progress | None
    ) -> AsyncIterator[str]:
        """An active snapshot holding the layer, for the block to commit; gives the layer's diff id. A failure removes it."""
        snapshots, content = self._parts.snapshots, self._parts.content
        await content.leases.add(lease, snapshot_resource(key))
        await self._discard(key)  # left by an engine that was killed while it unpacked
        await snapshots.prepare(key, parent)
        try:
            target = await snapshots.apply_target(key)
            blob = await content.open(layer.checked_digest)
            try:
                result = await self._parts.workers.run(
                    "sampan.archive.apply:apply_job",
                    {**target.job_args(), "max_bytes": EXPANSION_FREE + EXPANSION_MAX * layer.size},
                    fds=[blob],
                    progress=(lambda report: progress(layer, int(report.get("current", 0))))
                    if progress
                    else None,
                )
            finally:
                os.close(blob)
            yield str(result["diff_id"])
        except BaseException:
            await asyncio.shield(self._discard(key))
            raise

    async def _discard(self, key: str) -> None:
        try:
            await self._parts.snapshots.remove(key)
        except NotFound:
            return

    @asynccontextmanager
    async def _only_one(self, name: str) -> AsyncIterator[None]:
        """Two containers started at once from a fresh image unpack it once."""
        lock, waiting = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks[name]
            if waiting == 1:
                del self._locks[name]
            else:
                self._locks[name] = (lock, waiting - 1)
