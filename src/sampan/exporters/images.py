"""A result as an image in the engine's store.

The image's top layer must be a snapshot under the name that its chain of layers has, for containers stand on that. The result's own
snapshot has another name and keeps it; so an empty snapshot of that name is put on top of it, and nothing is unpacked again.
"""

from __future__ import annotations

from sampan.content.interface import Lease, snapshot_resource
from sampan.errors import Conflict, InvalidParameter
from sampan.exporters.forms import USUAL, ImageForm
from sampan.exporters.naming import Naming
from sampan.exporters.results import Results
from sampan.exporters.writing import Attach, ImageWriter, Written, WrittenManifest
from sampan.images.service import ImageService
from sampan.oci.image import chain_ids
from sampan.ops.trees import PREFIX
from sampan.solver.records import Records


class ImageExporter:
    """See the module."""

    def __init__(self, images: ImageService, writer: ImageWriter, records: Records) -> None:
        self._images = images
        self._writer = writer
        self._records = records

    async def export(
        self,
        results: Results,
        naming: Naming,
        lease: Lease,
        form: ImageForm = USUAL,
        attach: Attach | None = None,
    ) -> Written:
        """Write an image, or one for each platform, and name it; its content is there as long as the lease if it is not kept."""
        written = await self._writer.write(results, form, lease, attach)
        if naming.kept:
            if naming.unpacked:
                await self._make_durable()
                for each in written.manifests:
                    await self._settle(each, lease)
            await self._images.keep(written.target, naming.records(written.target.digest))
        return written

    async def _make_durable(self) -> None:
        """Results are believed after a crash from now on."""
        newest = await self._records.unsynced()
        if newest:
            await self._images.parts.snapshots.sync()
            await self._records.synced(newest)

    async def _settle(self, manifest: WrittenManifest, lease: Lease) -> None:
        """Make the topmost snapshot known by its chain id."""
        snapshots, leases = self._images.parts.snapshots, self._images.parts.content.leases
        tree = manifest.result.tree
        chain = chain_ids(manifest.image.config.rootfs.diff_ids)
        if not chain or not manifest.as_made or not tree.snapshot.startswith(PREFIX):
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
