"""`docker-image://`: an image of the engine's, pulled when it is not here."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sampan.content.interface import content_resource, snapshot_resource
from sampan.errors import InvalidParameter, NotFound
from sampan.images.interface import ResolvedImage
from sampan.images.service import ImageService
from sampan.llb.graph import Vertex
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.names.reference import parse_normalized
from sampan.solver.build import Build
from sampan.solver.interface import Identity, Task, Tree, digest_of_text
from sampan.solver.layers import Layer, LayerTable

SCHEME = "docker-image://"


class ImageFinder:
    """Finds images for one build: here, or at their registry with the credentials of the build's client."""

    def __init__(self, images: ImageService) -> None:
        self._images = images

    async def find(
        self, name: str, platform: Platform | None, build: Build, *, fresh: bool = False
    ) -> ResolvedImage:
        """An image by name. `fresh`: as the registry has it now. Raises `NotFound`, `SampanError` of the registry."""
        if not fresh:
            try:
                return await self._images.resolve(name, platform)
            except NotFound:
                pass
        reference = parse_normalized(name).with_default_tag()
        credentials = await build.credentials(reference.domain)
        await self._images.pull(reference, platform, credentials, lambda _: None)
        return await self._images.resolve(name, platform)


class ImageOperation:
    """One image source."""

    def __init__(
        self, vertex: Vertex, build: Build, images: ImageService, finder: ImageFinder, layers: LayerTable
    ) -> None:
        source = vertex.op.source
        self._vertex = vertex.digest
        self._name = source.identifier.removeprefix(SCHEME)
        self._mode = source.attrs.get("image.resolvemode", "default")
        self._checksum = source.attrs.get("image.checksum", "")
        self._limit = layer_limit(source.attrs.get("image.layerlimit", ""))
        self._build = build
        self._images = images
        self._finder = finder
        self._layers = layers
        self._platform = platform_of(vertex)

    async def identify(self) -> Identity:
        """The image that the name means now."""
        digest = "" if self._checksum else self._name.partition("@")[2]
        named = digest
        if not digest:
            found = await self._find()
            digest, named = found.descriptor.digest, found.target.digest
        self._build.notes[self._vertex] = {"digest": named}
        limit = () if self._limit is None else (str(self._limit),)
        return Identity(digest_of_text("image", digest, str(self._platform), *limit))

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        """Unpack it."""
        image = _lowest(await self._find(), self._limit)
        parts = self._images.parts
        await parts.content.leases.add(
            task.lease,
            *(content_resource(each.checked_digest) for each in (image.descriptor, *image.manifest.layers)),
        )
        snapshot = await self._images.unpacker.ensure(image.manifest, image.config, task.lease)
        if not snapshot:
            return [Tree()]
        await parts.content.leases.add(task.lease, snapshot_resource(snapshot))
        layers = [
            Layer(blob.digest, blob.media_type, blob.size, diff_id)
            for blob, diff_id in zip(image.manifest.layers, image.config.rootfs.diff_ids, strict=True)
        ]
        await self._layers.store(snapshot, layers)
        return [Tree(snapshot)]

    async def _find(self) -> ResolvedImage:
        image = await self._finder.find(self._name, self._platform, self._build, fresh=self._mode == "pull")
        if self._checksum and self._checksum != image.target.digest:
            raise InvalidParameter(
                f"image digest {image.target.digest} for {self._name} does not match expected checksum {self._checksum}"
            )
        return image


def layer_limit(text: str) -> int | None:
    """How many of an image's lowest layers are wanted; None: all. Raises `InvalidParameter`."""
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InvalidParameter(f"invalid layer limit {text}")
    return int(text)


def _lowest(image: ResolvedImage, limit: int | None) -> ResolvedImage:
    """The image with its lowest layers only."""
    if limit is None:
        return image
    manifest = msgspec.structs.replace(image.manifest, layers=image.manifest.layers[:limit])
    rootfs = msgspec.structs.replace(image.config.rootfs, diff_ids=image.config.rootfs.diff_ids[:limit])
    config = msgspec.structs.replace(image.config, rootfs=rootfs)
    return image._replace(manifest=manifest, config=config)


def platform_of(vertex: Vertex) -> Platform:
    """For which platform a vertex is; this machine's, when it does not say."""
    if not vertex.op.HasField("platform"):
        return platforms.local()
    platform = vertex.op.platform
    if not platform.OS or not platform.Architecture:
        raise InvalidParameter("invalid platform: no operating system or architecture")
    return platforms.parse("/".join(filter(None, (platform.OS, platform.Architecture, platform.Variant))))
