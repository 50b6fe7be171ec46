"""What documents claim of the blobs that they name: size and kind. A digest names content; these two are only said.

How a layer is compressed is not looked up here: its own first bytes say so, as for Docker.
"""

from __future__ import annotations

from sampan.content.interface import ContentStore
from sampan.errors import InvalidParameter
from sampan.oci.image import (
    CONFIG_TYPES,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    Index,
    Manifest,
    is_layer_type,
    parse_index,
    parse_manifest,
)

_DEPTH = 4


async def check_claims(content: ContentStore, target: Descriptor, source: str) -> None:
    """Compare everything below `target` that is here with what is said of it; `source` is the document that names it.

    Raises `InvalidParameter` that names the blob and the document. What is not here is not looked at.
    """
    if target.media_type not in INDEX_TYPES | MANIFEST_TYPES and target.media_type:
        raise InvalidParameter(
            f"{source} says that {target.digest} is of type {target.media_type!r}, which is neither an image nor an index"
        )
    await _check(content, target, source, 0)


async def _check(content: ContentStore, descriptor: Descriptor, source: str, depth: int) -> None:
    if depth > _DEPTH or not await content.exists(descriptor.checked_digest):
        return
    size = (await content.info(descriptor.checked_digest)).size
    if size != descriptor.size:
        raise InvalidParameter(
            f"{source} says that {descriptor.digest} has {descriptor.size} bytes, but it has {size}"
        )
    if descriptor.media_type in INDEX_TYPES:
        index = parse_index(await content.read(descriptor.checked_digest), descriptor.digest)
        _check_own_type(index, descriptor, source)
        for child in index.manifests:
            await _check(content, child, descriptor.digest, depth + 1)
    elif descriptor.media_type in MANIFEST_TYPES or (depth == 0 and not descriptor.media_type):
        manifest = parse_manifest(await content.read(descriptor.checked_digest), descriptor.digest)
        _check_own_type(manifest, descriptor, source)
        _check_layer_types(manifest, descriptor)
        for part in (manifest.config, *manifest.layers):
            await _check(content, part, descriptor.digest, depth + 1)


def _check_own_type(document: Index | Manifest, descriptor: Descriptor, source: str) -> None:
    if document.media_type and descriptor.media_type and document.media_type != descriptor.media_type:
        raise InvalidParameter(
            f"{source} says that {descriptor.digest} is of type {descriptor.media_type!r}, "
            f"but it calls itself {document.media_type!r}"
        )


def _check_layer_types(manifest: Manifest, descriptor: Descriptor) -> None:
    """An image's layers must be layers. A manifest without any is something else in an image's clothes (a signature, a chart)."""
    if manifest.config.media_type not in CONFIG_TYPES:
        return
    for layer in manifest.layers:
        if layer.media_type.endswith("+encrypted"):
            raise InvalidParameter(f"layer {layer.digest} is encrypted, and no key for it can be given")
    kinds = [is_layer_type(layer.media_type) for layer in manifest.layers]
    if any(kinds) and not all(kinds):
        wrong = manifest.layers[kinds.index(False)]
        raise InvalidParameter(
            f"{descriptor.digest} says that its layer {wrong.digest} is of type {wrong.media_type!r}, which is none of a layer"
        )
