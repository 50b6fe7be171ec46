"""An image in OCI's media types, for programs that read no others (umoci): the same blobs under new manifests.

Manifests change, and with them the image's digest: what was signed is not signed any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from sampan.errors import InvalidParameter
from sampan.oci.image import (
    ANNOTATION_REFERENCE_DIGEST,
    DOCKER_CONFIG,
    DOCKER_FOREIGN_LAYER,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYERS,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    describe,
    parse_index,
    parse_manifest,
)
from sampan.registry.copying import Source

_DEPTH = 4
_TYPES = {
    DOCKER_INDEX: OCI_INDEX,
    DOCKER_MANIFEST: OCI_MANIFEST,
    DOCKER_CONFIG: OCI_CONFIG,
    **OCI_LAYERS,
    DOCKER_FOREIGN_LAYER: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
}


class OciForm:
    """A `Source` over another one. Documents that are OCI's already stay as they are, to the byte."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._documents: dict[str, bytes] = {}

    async def target(self) -> Descriptor:
        return await self.converted(await self._source.target())

    async def document(self, descriptor: Descriptor) -> bytes:
        made = self._documents.get(descriptor.digest)
        return made if made is not None else await self._source.document(descriptor)

    def blob(self, descriptor: Descriptor, offset: int, length: int) -> AsyncIterator[bytes]:
        return self._source.blob(descriptor, offset, length)

    async def converted(self, descriptor: Descriptor, depth: int = 0) -> Descriptor:
        """What a manifest or index of the source is here. Raises `InvalidParameter`, `NotFound`."""
        data = await self._source.document(descriptor)
        if descriptor.media_type in INDEX_TYPES:
            if depth >= _DEPTH:
                raise InvalidParameter(
                    f"index {descriptor.digest}: more than {_DEPTH} indexes within one another"
                )
            changed = await self._index(descriptor, data, depth)
        else:
            changed = self._manifest(descriptor, data)
        if changed is None:
            return descriptor
        made = describe(changed, _TYPES.get(descriptor.media_type, descriptor.media_type))
        self._documents[made.digest] = changed
        return made

    async def _index(self, descriptor: Descriptor, data: bytes, depth: int) -> bytes | None:
        children = parse_index(data, descriptor.digest).manifests
        made = {each.digest: await self.converted(each, depth + 1) for each in children}
        same = all(digest == each.digest for digest, each in made.items())
        if same and descriptor.media_type not in _TYPES:
            return None
        document: dict[str, Any] = msgspec.json.decode(data)
        document["mediaType"] = OCI_INDEX
        for entry in document.get("manifests") or []:
            child = made[entry["digest"]]
            entry.update(mediaType=child.media_type, digest=child.digest, size=child.size)
            entry.pop("data", None)
            about = (entry.get("annotations") or {}).get(ANNOTATION_REFERENCE_DIGEST)
            if about in made:
                entry["annotations"][ANNOTATION_REFERENCE_DIGEST] = made[about].digest
        return msgspec.json.encode(document)

    def _manifest(self, descriptor: Descriptor, data: bytes) -> bytes | None:
        manifest = parse_manifest(data, descriptor.digest)
        if not any(each in _TYPES for each in (descriptor.media_type, *_media_types(manifest))):
            return None
        document: dict[str, Any] = msgspec.json.decode(data)
        document["mediaType"] = OCI_MANIFEST
        for entry in (document["config"], *(document.get("layers") or [])):
            entry["mediaType"] = _TYPES.get(entry["mediaType"], entry["mediaType"])
        return msgspec.json.encode(document)


def _media_types(manifest: Manifest) -> list[str]:
    return [each.media_type for each in (manifest.config, *manifest.layers)]
