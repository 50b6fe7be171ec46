"""How much room images take: content as distributed, and layers as unpacked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sampan.errors import NotFound
from sampan.images.documents import ImageManifest
from sampan.images.parts import Parts
from sampan.names.digest import Digest
from sampan.oci.image import Descriptor, chain_ids


class Size(NamedTuple):
    """Bytes."""

    content: int
    unpacked: int

    @property
    def total(self) -> int:
        return self.content + self.unpacked


class Sizer:
    """Sizes for the length of one request: each snapshot and blob is looked up once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._snapshots: dict[str, int] = {}
        self._present: dict[str, bool] = {}

    async def of_manifest(self, manifest: ImageManifest) -> Size:
        """What is present of one manifest."""
        if manifest.manifest is None:
            return Size(0, 0)
        descriptors = {
            each.digest: each
            for each in (manifest.descriptor, manifest.manifest.config, *manifest.manifest.layers)
        }
        content = sum(
            [each.size for each in descriptors.values() if manifest.available or await self._is_present(each)]
        )
        return Size(content, sum([await self.of_snapshot(name) for name in chain_of(manifest)]))

    async def of_snapshot(self, name: str) -> int:
        """Bytes of one committed snapshot; 0 when it is not unpacked."""
        if name not in self._snapshots:
            try:
                self._snapshots[name] = (await self._parts.snapshots.usage(name)).size
            except NotFound:
                self._snapshots[name] = 0
        return self._snapshots[name]

    async def _is_present(self, descriptor: Descriptor) -> bool:
        if descriptor.digest not in self._present:
            self._present[descriptor.digest] = await self._parts.content.exists(Digest(descriptor.digest))
        return self._present[descriptor.digest]


def chain_of(manifest: ImageManifest) -> list[str]:
    """Names of the snapshots of an image manifest, lowest first."""
    return list(chain_ids(manifest.config.rootfs.diff_ids)) if manifest.config else []


def shared_sizes(images: Sequence[Mapping[str, int]]) -> list[int]:
    """For each image, given as its blobs and snapshots with their bytes: the bytes of those that another image has too."""
    owners = Counter(piece for pieces in images for piece in pieces)
    return [sum(size for piece, size in pieces.items() if owners[piece] > 1) for pieces in images]
