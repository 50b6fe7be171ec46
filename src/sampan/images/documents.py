"""Reading images: from a target down to the manifests, configs and layers that are here.

An image need not be complete. An index may name platforms that were never fetched, and manifests that are no images at all
(attestations). `ImageManifest` says of each manifest what it is and whether all of it is present.

Documents never change, so what was parsed is kept, the least recently used ones dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

from sampan.content.interface import ContentStore
from sampan.errors import InvalidParameter, NotFound
from sampan.names import platform as platforms
from sampan.names.digest import Digest
from sampan.names.platform import Platform
from sampan.oci.image import (
    ANNOTATION_REFERENCE_DIGEST,
    ANNOTATION_REFERENCE_TYPE,
    CONFIG_TYPES,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    is_layer_type,
    parse_config,
    parse_index,
    parse_manifest,
)

T = TypeVar("T")

_KEPT = 4096
_INDEX_DEPTH = 4
"""Indexes within indexes; a hostile archive could nest them without end."""

Kind = Literal["image", "attestation", "unknown"]


class ImageManifest(NamedTuple):
    """One manifest of an image, as far as it is present."""

    descriptor: Descriptor
    kind: Kind
    manifest: Manifest | None
    """None: the blob is not here."""
    config: ImageConfig | None
    platform: Platform | None
    available: bool
    """Manifest, config and every layer are here."""
    attests: str = ""
    """For an attestation: the digest of the manifest that it is about."""


class Documents:
    """Parsed manifests, indexes and configs of a content store."""

    def __init__(self, content: ContentStore) -> None:
        self.content = content
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self._complete: set[str] = set()

    async def index(self, digest: str) -> Index:
        """Raises `NotFound` when it is not here, `InvalidParameter` when it is no index."""
        return await self._parsed(digest, parse_index)

    async def manifest(self, digest: str) -> Manifest:
        """Raises `NotFound` when it is not here, `InvalidParameter` when it is no manifest."""
        return await self._parsed(digest, parse_manifest)

    async def config(self, digest: str) -> ImageConfig:
        """Raises `NotFound` when it is not here, `InvalidParameter` when it is no image config."""
        return await self._parsed(digest, parse_config)

    def forget(self) -> None:
        """Content was collected: what was complete may no longer be."""
        self._complete.clear()

    def drop(self, digest: str) -> None:
        """A document was removed."""
        self._kept.pop(digest, None)
        self._complete.discard(digest)

    async def manifests(self, target: Descriptor) -> list[ImageManifest]:
        """Every manifest of an image, in the index's order; those not here as well."""
        found: list[ImageManifest] = []
        await self._gather(target, found, 0)
        return found

    async def present(self, target: Descriptor) -> list[Descriptor]:
        """Everything of an image that is here: target, manifests, configs, layers, each once, parents first."""
        found: dict[str, Descriptor] = {}
        await self._gather_present(target, found, 0)
        return list(found.values())

    async def _gather(self, descriptor: Descriptor, found: list[ImageManifest], depth: int) -> None:
        if descriptor.media_type in INDEX_TYPES:
            if depth >= _INDEX_DEPTH:
                raise InvalidParameter(
                    f"index {descriptor.digest}: more than {_INDEX_DEPTH} indexes within one another"
                )
            try:
                index = await self.index(descriptor.digest)
            except NotFound:
                return
            for child in index.manifests:
                await self._gather(child, found, depth + 1)
        elif descriptor.media_type in MANIFEST_TYPES or not descriptor.media_type:
            found.append(await self._image_manifest(descriptor))

    async def _image_manifest(self, descriptor: Descriptor) -> ImageManifest:
        attests = ""
        if descriptor.annotations.get(ANNOTATION_REFERENCE_TYPE) == "attestation-manifest":
            attests = descriptor.annotations.get(ANNOTATION_REFERENCE_DIGEST, "")
        platform = platform_of(descriptor)
        try:
            manifest = await self.manifest(descriptor.digest)
        except NotFound:
            kind: Kind = "attestation" if attests else "image" if platform else "unknown"
            return ImageManifest(descriptor, kind, None, None, platform, False, attests)
        kind = "attestation" if attests else _kind(manifest, descriptor)
        config = None
        if kind == "image":
            try:
                config = await self.config(manifest.config.digest)
            except NotFound:
                return ImageManifest(descriptor, kind, manifest, None, platform, False)
            platform = platform or config_platform(config)
        available = await self._is_complete(descriptor, manifest)
        return ImageManifest(descriptor, kind, manifest, config, platform, available, attests)

    async def _is_complete(self, descriptor: Descriptor, manifest: Manifest) -> bool:
        if descriptor.digest in self._complete:
            return True
        for part in (manifest.config, *manifest.layers):
            if not await self.content.exists(part.checked_digest):
                return False
        self._complete.add(descriptor.digest)
        return True

    async def _gather_present(self, descriptor: Descriptor, found: dict[str, Descriptor], depth: int) -> None:
        if descriptor.digest in found or not await self.content.exists(descriptor.checked_digest):
            return
        found[descriptor.digest] = descriptor
        if descriptor.media_type in INDEX_TYPES and depth < _INDEX_DEPTH:
            for child in (await self.index(descriptor.digest)).manifests:
                await self._gather_present(child, found, depth + 1)
        elif descriptor.media_type in MANIFEST_TYPES:
            manifest = await self.manifest(descriptor.digest)
            for part in (manifest.config, *manifest.layers):
                await self._gather_present(part, found, depth + 1)

    async def _parsed(self, digest: str, parse: Callable[[bytes, str], T]) -> T:
        if (kept := self._kept.get(digest)) is not None:
            self._kept.move_to_end(digest)
            document: T = kept
            return document
        document = parse(await self.content.read(Digest(digest)), digest)
        self._kept[digest] = document
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return document


def platform_of(descriptor: Descriptor) -> Platform | None:
    """The platform that an index says a manifest is for; None when it says none, or `unknown`."""
    given = descriptor.platform
    if given is None or not given.os or given.os == "unknown":
        return None
    return platforms.normalize(Platform(given.os, given.architecture, given.variant, given.os_version))


def config_platform(config: ImageConfig) -> Platform:
    """The platform that an image's own configuration names."""
    return platforms.normalize(
        Platform(config.os or "linux", config.architecture, config.variant, config.os_version)
    )


def choose_manifest(manifests: list[ImageManifest], wanted: Platform | None) -> ImageManifest | None:
    """The complete image manifest for `wanted` exactly; without it the best for this machine, else the first of any platform."""
    candidates = [each for each in manifests if each.kind == "image" and each.available and each.platform]
    if wanted is not None:
        return next(
            (each for each in candidates if each.platform and platforms.matches(each.platform, wanted)), None
        )
    best = platforms.choose(candidates, lambda each: each.platform or platforms.local(), platforms.local())
    return next(iter([*best, *candidates]), None)


def _kind(manifest: Manifest, descriptor: Descriptor) -> Kind:
    """Some artefacts borrow the image's media type; without any layer that is one, they are not images."""
    if manifest.config.media_type not in CONFIG_TYPES:
        return "unknown"
    if manifest.layers and not any(is_layer_type(layer.media_type) for layer in manifest.layers):
        return "unknown"
    if descriptor.platform is not None and descriptor.platform.os == "unknown":
        return "unknown"
    return "image"
