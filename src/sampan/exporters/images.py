"""A result as an image in the engine's store.

The image's top layer must be a snapshot under the name that its chain of layers has, for containers stand on that. The result's own
snapshot has another name and keeps it; so an empty snapshot of that name is put on top of it, and nothing is unpacked again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sampan.content.interface import Lease, snapshot_resource
from sampan.errors import Conflict, InvalidParameter
from sampan.images.committing import NewImage
from sampan.images.service import ImageService
from sampan.names.reference import Reference
from sampan.names.times import format_rfc3339_nano
from sampan.oci.image import Descriptor, History, ImageConfig, RootFS, chain_ids
from sampan.ops.layering import AS_IT_IS, LayerForm, Layering
from sampan.ops.trees import PREFIX
from sampan.solver.interface import EMPTY, Tree
from sampan.solver.layers import Layer
from sampan.solver.records import Records


class ImageExporter:
    """See the module."""

    def __init__(self, images: ImageService, layering: Layering, records: Records) -> None:
        self._images = images
        self._layering = layering
        self._records = records

    async def export(
        self,
        tree: Tree,
        config: ImageConfig,
        names: Sequence[Reference],
        lease: Lease,
        *,
        epoch: int | None = None,
        form: LayerForm = AS_IT_IS,
    ) -> str:
        """Write an image and name it; its id. `epoch` (seconds) is the time that it says it was made."""
        image, as_made = await self.prepared(tree, config, lease, epoch=epoch, form=form)
        await self._settle(tree if as_made else EMPTY, image.config.rootfs.diff_ids, lease)
        id = await self._images.create_from(image, lease)
        for name in names:
            await self._images.tag(id, name.familiar_name(), name.tag or "latest")
        return id

    async def prepared(
        self,
        tree: Tree,
        config: ImageConfig,
        lease: Lease,
        *,
        epoch: int | None = None,
        form: LayerForm = AS_IT_IS,
    ) -> tuple[NewImage, bool]:
        """An image whose layers are there, and whether they are the result's own, byte for byte when unpacked."""
        made = await self._layering.layers(tree, lease)
        layers = await self._layering.in_form(made, form, lease)
        document = completed(config, layers, None if epoch is None else epoch * 1_000_000_000)
        blobs = [
            Descriptor(media_type=each.media_type, digest=each.digest, size=each.size) for each in layers
        ]
        same = [each.diff_id for each in made] == [each.diff_id for each in layers]
        return NewImage(document, blobs, ""), same

    async def _settle(self, tree: Tree, diff_ids: list[str], lease: Lease) -> None:
        """Make the snapshots durable, and the topmost one known by its chain id."""
        snapshots, leases = self._images.parts.snapshots, self._images.parts.content.leases
        newest = await self._records.unsynced()
        if newest:
            await snapshots.sync()
            await self._records.synced(newest)
        chain = chain_ids(diff_ids)
        if not chain or not tree.snapshot.startswith(PREFIX):
            return
        name, key = chain[-1], f"{PREFIX}alias-{lease.id}-{chain[-1]}"
        await leases.add(lease, snapshot_resource(name), snapshot_resource(key))
        if await self._images.unpacker.is_unpacked(name):
            return
        try:
            await snapshots.prepare(key, tree.snapshot)
            await snapshots.commit(name, key)
        except Conflict:
            await snapshots.remove(key)
        except InvalidParameter:
            # The chain is as long as can be: the layers are unpacked for the image itself, without steps of one's own between.
            await snapshots.remove(key)


def completed(config: ImageConfig, layers: Sequence[Layer], epoch_ns: int | None) -> ImageConfig:
    """The configuration with its layers and times; history has one line per layer.

    What was not made now is not said to be: a step's time is when its files were made, so that an image whose steps were all there
    already is the same image. `epoch_ns` instead is the time of all that has none.
    """
    document = msgspec.convert(msgspec.to_builtins(config), ImageConfig)
    document.rootfs = RootFS(diff_ids=[each.diff_id for each in layers])
    document.history = _dated(_matching(document.history, len(layers)), layers, epoch_ns)
    document.created = (
        document.history[-1].created if document.history else format_rfc3339_nano(epoch_ns or 0)
    )
    return document


def _matching(given: Sequence[History], layers: int) -> list[History]:
    history = list(given)
    told = sum(not each.empty_layer for each in history)
    if told < layers:
        # What a graph has beyond what its frontend told of.
        history += [History(comment="buildkit.exporter.image.v0") for _ in range(layers - told)]
    spare = told - layers
    for number in range(len(history) - 1, -1, -1):
        if spare > 0 and not history[number].empty_layer:
            history[number] = msgspec.structs.replace(history[number], empty_layer=True)
            spare -= 1
    return history


def _dated(history: Sequence[History], layers: Sequence[Layer], epoch_ns: int | None) -> list[History]:
    """Lines without layers have the time of what is before them."""
    dated = []
    times = iter(each.created_ns for each in layers)
    last = format_rfc3339_nano(
        max((each.created_ns for each in layers), default=0) if epoch_ns is None else epoch_ns
    )
    for each in history:
        made = 0 if each.empty_layer else next(times, 0)
        if each.created:
            last = each.created
        elif epoch_ns is not None:
            last = format_rfc3339_nano(epoch_ns)
        elif made:
            last = format_rfc3339_nano(made)
        dated.append(msgspec.structs.replace(each, created=last))
    return dated
