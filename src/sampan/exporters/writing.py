"""A build's results as the documents of an image: a manifest for each platform, and an index of them where there are several.

Manifests *about* those (attestations) come from whoever makes them, through `Attach`: their descriptors stand in the index behind
all platforms, and with them a single platform has an index too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import msgspec

from sampan.content.interface import Lease
from sampan.exporters.configuration import completed
from sampan.exporters.forms import ImageForm, converted_type
from sampan.exporters.results import PlatformResult, Results
from sampan.images.committing import NewImage, write_documents, write_index
from sampan.images.manifests import oci_platform
from sampan.images.parts import Parts
from sampan.oci.image import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from sampan.ops.layering import Layering


class WrittenManifest(NamedTuple):
    """One platform's image: everything of it is in the content store."""

    result: PlatformResult
    descriptor: Descriptor
    """As an index has it, with platform and annotations."""
    config: Descriptor
    image: NewImage
    as_made: bool
    """Whether its layers unpack to exactly the result's own snapshots."""


Attach = Callable[[WrittenManifest, Lease], Awaitable[Sequence[Descriptor]]]
"""Manifests about one that was just written, themselves written under the lease; their descriptors say of what they are."""


class Written(NamedTuple):
    """An image, or several in an index."""

    target: Descriptor
    """What a name of it means."""
    manifests: Sequence[WrittenManifest]

    @property
    def is_index(self) -> bool:
        """Whether the target is one."""
        return self.target.media_type in INDEX_TYPES

    @property
    def created(self) -> str:
        """When the newest of them says it was made (RFC 3339)."""
        return max((each.image.config.created or "" for each in self.manifests), default="")


class ImageWriter:
    """See the module."""

    def __init__(self, parts: Parts, layering: Layering) -> None:
        self._parts = parts
        self._layering = layering

    async def write(
        self, results: Results, form: ImageForm, lease: Lease, attach: Attach | None = None
    ) -> Written:
        """Write everything, under `lease`. Raises `InvalidParameter` for annotations that nothing of it has."""
        if results.several:
            form.annotations.check_platforms([each.platform for each in results.platforms])
        manifests = [await self._manifest(each, form, lease) for each in results.platforms]
        attached: list[Descriptor] = []
        if attach is not None:
            for each in manifests:
                attached += await attach(each, lease)
        if not results.several and not attached:
            form.annotations.check_no_index()
            (only,) = manifests
            return Written(only.descriptor, manifests)
        index = await write_index(
            self._parts,
            [*(each.descriptor for each in manifests), *attached],
            lease,
            form.annotations.index,
            OCI_INDEX if form.oci_types else DOCKER_INDEX,
        )
        target = msgspec.structs.replace(index, annotations=dict(form.annotations.index_descriptor))
        return Written(target, manifests)

    async def _manifest(self, result: PlatformResult, form: ImageForm, lease: Lease) -> WrittenManifest:
        image, as_made = await self._prepared(result, form, lease)
        config, descriptor = await write_documents(self._parts, image, lease)
        described = msgspec.structs.replace(
            descriptor,
            platform=oci_platform(result.platform),
            annotations=form.annotations.of_descriptor(result.platform),
        )
        return WrittenManifest(result, described, config, image, as_made)

    async def _prepared(self, result: PlatformResult, form: ImageForm, lease: Lease) -> tuple[NewImage, bool]:
        """An image whose layers are there, and whether they are the result's own, byte for byte when unpacked."""
        made = await self._layering.layers(result.tree, lease)
        layers = await self._layering.in_form(made, form.layers(result.epoch), lease)
        document = completed(
            result.config, layers, None if result.epoch is None else result.epoch * 1_000_000_000
        )
        blobs = [
            Descriptor(
                media_type=converted_type(each.media_type, oci=form.oci_types),
                digest=each.digest,
                size=each.size,
            )
            for each in layers
        ]
        same = [each.diff_id for each in made] == [each.diff_id for each in layers]
        image = NewImage(
            document,
            blobs,
            "",
            annotations=form.annotations.of_manifest(result.platform),
            manifest_type=OCI_MANIFEST if form.oci_types else DOCKER_MANIFEST,
            config_type=OCI_CONFIG if form.oci_types else DOCKER_CONFIG,
        )
        return image, same
