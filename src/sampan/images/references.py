"""What needs what: references between the blobs of an image, so that collection keeps them together."""

from __future__ import annotations

from collections.abc import Iterable

from sampan.content.interface import ContentStore, content_resource
from sampan.images.documents import Documents
from sampan.names.digest import Digest
from sampan.oci.image import INDEX_TYPES, MANIFEST_TYPES, Descriptor

_INDEX_DEPTH = 4


async def refer(content: ContentStore, digest: str, parts: Iterable[Descriptor]) -> None:
    """Say that a blob needs others, so that collection keeps them."""
    await content.add_references(Digest(digest), [content_resource(part.checked_digest) for part in parts])


async def refer_all(
    content: ContentStore, documents: Documents, descriptor: Descriptor, depth: int = 0
) -> None:
    """Note the references of an image: of the index, and of every manifest of it that is here."""
    if not await content.exists(descriptor.checked_digest):
        return
    if descriptor.media_type in INDEX_TYPES and depth < _INDEX_DEPTH:
        children = (await documents.index(descriptor.digest)).manifests
        await refer(content, descriptor.digest, children)
        for child in children:
            await refer_all(content, documents, child, depth + 1)
    elif descriptor.media_type in MANIFEST_TYPES:
        manifest = await documents.manifest(descriptor.digest)
        await refer(content, descriptor.digest, [manifest.config, *manifest.layers])
