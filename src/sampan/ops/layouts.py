"""`oci-layout://`: an image in a store of the client's, which serves it on its session (`--build-context NAME=oci-layout://PATH`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sampan.errors import InvalidParameter, NotFound
from sampan.images.service import ImageService
from sampan.images.trusting import Trust
from sampan.llb.graph import Vertex
from sampan.names.platform import Platform
from sampan.oci.image import (
    DOCUMENT_LIMIT,
    INDEX_TYPES,
    Descriptor,
    ImageConfig,
    chain_ids,
    parse_config,
    parse_index,
    parse_manifest,
)
from sampan.ops.images import layer_limit, platform_of
from sampan.ops.intake import LayerIntake
from sampan.registry.copying import Source, of_platform
from sampan.solver.build import Build
from sampan.solver.interface import Identity, Task, Tree, digest_of_text
from sampan.solver.layers import Layer, LayerTable

SCHEME = "oci-layout://"


class LayoutImage(NamedTuple):
    """What a digest means in a layout, for one platform."""

    config: ImageConfig
    layers: list[Layer]


async def find(source: Source, platform: Platform, trust: Trust) -> LayoutImage:
    """Read an image's documents. Raises `InvalidParameter` for what is none, `Forbidden`, and as the source does."""
    target = await source.target()
    await trust.archived("oci", [target])
    if target.media_type in INDEX_TYPES:
        target = await _chosen(source, target, platform)
    manifest = parse_manifest(await source.document(target), target.digest)
    if not 0 <= manifest.config.size <= DOCUMENT_LIMIT:
        raise InvalidParameter(f"{manifest.config.digest}: too large for an image's configuration")
    config = parse_config(await source.document(manifest.config))
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise InvalidParameter(
            f"image has {len(manifest.layers)} layers in its manifest and {len(diff_ids)} in its config"
        )
    chain_ids(diff_ids)  # raises for what is no digest
    layers = [
        Layer(blob.checked_digest, blob.media_type, blob.size, diff_id)
        for blob, diff_id in zip(manifest.layers, diff_ids, strict=True)
    ]
    return LayoutImage(config, layers)


async def _chosen(source: Source, index: Descriptor, platform: Platform) -> Descriptor:
    """The image for a platform; an only one that does not say what it is for is taken."""
    try:
        return await of_platform(source, index, platform)
    except NotFound:
        entries = parse_index(await source.document(index), index.digest).manifests
        if len(entries) == 1 and entries[0].platform is None:
            return entries[0]
        raise


class LayoutOperation:
    """One image of a client's."""

    def __init__(self, vertex: Vertex, build: Build, images: ImageService, layers: LayerTable) -> None:
        """Raises `InvalidParameter` for a reference without a digest."""
        given = vertex.op.source
        name = given.identifier.removeprefix(SCHEME)
        self._digest = name.partition("@")[2]
        if not self._digest:
            raise InvalidParameter(f'reference "{name}" must have digest')
        self._store = given.attrs.get("oci.store", "") or name.partition("@")[0]
        self._session = given.attrs.get("oci.session", "")
        self._limit = layer_limit(given.attrs.get("oci.layerlimit", ""))
        self._platform = platform_of(vertex)
        self._build = build
        self._images = images
        self._table = layers

    async def identify(self) -> Identity:
        """As of any image: whose it is does not count."""
        limit = () if self._limit is None else (str(self._limit),)
        return Identity(digest_of_text("image", self._digest, str(self._platform), *limit))

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        """Fetch and unpack it."""
        source = self._build.client(self._session, self._store).image(self._store, self._digest)
        found = await find(source, self._platform, self._images.trust)
        intake = LayerIntake(source, self._images, self._table)
        return [await intake.tree(found.layers[: self._limit], task.lease)]
