"""A result as an archive: an OCI image layout, with `manifest.json` for older engines (`docker`) or without (`oci`).

Nothing of it becomes an image of the engine's: the lease keeps the blobs until the last byte has left.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal

import msgspec

from sampan.content.interface import Lease
from sampan.exporters.images import ImageExporter
from sampan.images import layout
from sampan.images.committing import write_documents
from sampan.images.parts import Parts
from sampan.names.reference import Reference
from sampan.oci.image import (
    ANNOTATION_CREATED,
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_REF_NAME,
    Descriptor,
    ImageConfig,
)
from sampan.ops.layering import AS_IT_IS, LayerForm
from sampan.solver.interface import Tree

Kind = Literal["docker", "oci"]


class ArchiveExporter:
    """See the module."""

    def __init__(self, images: ImageExporter, parts: Parts) -> None:
        self._images = images
        self._parts = parts

    async def export(
        self,
        tree: Tree,
        config: ImageConfig,
        names: Sequence[Reference],
        lease: Lease,
        kind: Kind,
        *,
        epoch: int | None = None,
        form: LayerForm = AS_IT_IS,
    ) -> tuple[Descriptor, AsyncGenerator[bytes, None]]:
        """The manifest, and the archive's bytes: the same files at the same `epoch` give the same ones."""
        image, _ = await self._images.prepared(tree, config, lease, epoch=epoch, form=form)
        config_blob, manifest = await write_documents(self._parts, image, lease)
        blobs = {each.digest: each for each in (manifest, config_blob, *image.layers)}
        files = {"index.json": layout.index_file(_entries(manifest, names, image.config.created or ""))}
        if kind == "docker":
            tags = [name.familiar() for name in names]
            layers = [each.digest for each in image.layers]
            entry = layout.docker_manifest_entry(config_blob.digest, tags, layers)
            files["manifest.json"] = layout.json_bytes([entry])
        files["oci-layout"] = layout.layout_file()
        return manifest, self._stream(blobs, files)

    async def _stream(
        self, blobs: dict[str, Descriptor], files: dict[str, bytes]
    ) -> AsyncGenerator[bytes, None]:
        yield layout.directory_header("blobs/") + layout.directory_header("blobs/sha256/")
        for digest in sorted(blobs):
            blob = blobs[digest]
            yield layout.file_header(layout.blob_path(digest), blob.size)
            async for chunk in self._parts.content.stream(blob.checked_digest):
                yield chunk
            yield layout.padding(blob.size)
        for name, data in files.items():
            yield layout.file_header(name, len(data)) + data + layout.padding(len(data))
        yield layout.END_OF_ARCHIVE


def _entries(manifest: Descriptor, names: Sequence[Reference], created: str) -> list[dict[str, Any]]:
    """One for each name; one without any, when there is none."""
    described: dict[str, Any] = msgspec.to_builtins(manifest)
    dated = {ANNOTATION_CREATED: created} if created else {}
    if not names:
        return [{**described, "annotations": dated} if dated else described]
    return [
        {
            **described,
            "annotations": {
                ANNOTATION_IMAGE_NAME: str(name),
                **dated,
                ANNOTATION_REF_NAME: name.tag or "latest",
            },
        }
        for name in names
    ]
