"""A result as an archive: an OCI image layout, with `manifest.json` for older engines (`docker`) or without (`oci`).

Nothing of it becomes an image of the engine's: the lease keeps the blobs until the last byte has left.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from sampan.content.interface import Lease
from sampan.exporters.forms import ImageForm
from sampan.exporters.results import Results
from sampan.exporters.writing import Attach, ImageWriter, Written, WrittenManifest
from sampan.images import layout
from sampan.images.parts import Parts
from sampan.names import platform as platforms
from sampan.names.reference import Reference
from sampan.oci.image import ANNOTATION_CREATED, ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Descriptor

Kind = Literal["docker", "oci"]


class Archive(NamedTuple):
    """What was written, and where it can be read."""

    written: Written
    target: Descriptor
    """As the layout's index has it, without a name."""
    chunks: AsyncGenerator[bytes, None]


class ArchiveExporter:
    """See the module."""

    def __init__(self, writer: ImageWriter, parts: Parts) -> None:
        self._writer = writer
        self._parts = parts

    async def export(
        self,
        results: Results,
        names: Sequence[Reference],
        lease: Lease,
        kind: Kind,
        form: ImageForm,
        attach: Attach | None = None,
    ) -> Archive:
        """The archive: the same files at the same time are the same bytes."""
        written = await self._writer.write(results, form, lease, attach)
        target = _dated(written)
        blobs = {each.digest: each for each in await self._parts.documents.present(target)}
        files = {"index.json": layout.index_file(_entries(target, names))}
        if kind == "docker":
            chosen = _for_here(written.manifests)
            layers = [each.digest for each in chosen.image.layers]
            tags = [name.familiar() for name in names]
            entry = layout.docker_manifest_entry(chosen.config.digest, tags, layers)
            files["manifest.json"] = layout.json_bytes([entry])
        files["oci-layout"] = layout.layout_file()
        return Archive(written, target, self._stream(blobs, files))

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


def _dated(written: Written) -> Descriptor:
    """The target, with the time that it says it was made."""
    target = written.target
    if ANNOTATION_CREATED in target.annotations or not written.created:
        return target
    annotations = {**target.annotations, ANNOTATION_CREATED: written.created}
    return msgspec.structs.replace(target, annotations=annotations)


def _for_here(manifests: Sequence[WrittenManifest]) -> WrittenManifest:
    """The one that older engines find: they know one platform for each image."""
    best = platforms.choose(manifests, lambda each: each.result.platform, platforms.local())
    return next(iter([*best, *manifests]))


def _entries(target: Descriptor, names: Sequence[Reference]) -> list[dict[str, Any]]:
    """One for each name; one without any, when there is none."""
    described: dict[str, Any] = msgspec.to_builtins(target)
    if not names:
        return [described]
    return [
        {
            **described,
            "annotations": {
                ANNOTATION_IMAGE_NAME: str(name),
                **target.annotations,
                ANNOTATION_REF_NAME: name.tag or "latest",
            },
        }
        for name in names
    ]
