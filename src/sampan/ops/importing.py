"""Cache that another engine exported, as a second source of results: an index or manifest with a cache config, or images that carry
one in their configuration (`inline`). Nothing but documents is read before somebody needs a result's files.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence

import msgspec

from sampan.content.interface import Lease
from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.images.service import ImageService
from sampan.names.times import parse_rfc3339
from sampan.oci.image import (
    DOCUMENT_LIMIT,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    Index,
    chain_ids,
    is_layer_type,
    parse_config,
    parse_index,
    parse_manifest,
)
from sampan.ops.intake import LayerIntake
from sampan.registry.copying import Source, verified
from sampan.solver.cacheconfig import CACHE_CONFIG, CacheGraph, parse
from sampan.solver.interface import Tree
from sampan.solver.layers import Layer, LayerTable

DIFF_ID = "containerd.io/uncompressed"
CREATED = "buildkit/createdat"
_CONFIG_LIMIT = 64 << 20
"""Bytes of a cache config: every step of a large build has a record."""
_IMAGES_MAX = 100


class ImportedCache:
    """`solver.interface.CacheSource`."""

    def __init__(
        self,
        graph: CacheGraph,
        layers: Mapping[str, Layer],
        source: Source,
        images: ImageService,
        table: LayerTable,
    ) -> None:
        self._graph = graph
        self._layers = layers
        self._intake = LayerIntake(source, images, table)

    def canonical(self, key: str) -> str | None:
        """See `CacheSource`."""
        return self._graph.leads.get(key)

    def has(self, key: str) -> bool:
        """See `CacheSource`."""
        return key in self._graph.results

    async def layers(self, key: str, lease: Lease) -> list[Layer]:
        """See `CacheSource`."""
        layers = [self._layers[digest] for digest in self._graph.results[key]]
        for layer in layers:
            await self._intake.fetch(layer, lease)
        return layers

    async def tree(self, key: str, lease: Lease) -> Tree:
        """See `CacheSource`."""
        layers = [self._layers[digest] for digest in self._graph.results[key]]
        return await self._intake.tree(layers, lease)


async def open_cache(source: Source, images: ImageService, table: LayerTable) -> ImportedCache:
    """Read what says which results are there. Raises `InvalidParameter` for documents that are none, and as the source does."""
    target = await source.target()
    data = await source.document(target)
    results: dict[str, tuple[str, ...]] = {}
    leads: dict[str, str] = {}
    layers: dict[str, Layer] = {}
    if target.media_type in INDEX_TYPES:
        index = parse_index(data, target.digest)
        config = next((each for each in index.manifests if each.media_type == CACHE_CONFIG), None)
        parts: Sequence[Descriptor] = index.manifests
        manifests = await _manifests(source, index) if config is None else []
    else:
        manifest = parse_manifest(data, target.digest)
        config = manifest.config if manifest.config.media_type == CACHE_CONFIG else None
        parts = manifest.layers
        manifests = [data] if config is None else []
    if config is not None:
        graph = parse(await _small(source, config))
        layers = {each.digest: _layer(each) for each in parts if is_layer_type(each.media_type)}
        results.update(graph.results)
        leads.update(graph.leads)
    for each in manifests:
        await _inline(source, each, results, leads, layers)
    usable = {key: chain for key, chain in results.items() if all(layer in layers for layer in chain)}
    return ImportedCache(CacheGraph(usable, leads), layers, source, images, table)


async def _manifests(source: Source, index: Index) -> list[bytes]:
    """The images of an index. One that is not there (of another platform, not copied) is left out."""
    found: list[bytes] = []
    for each in index.manifests[:_IMAGES_MAX]:
        if each.media_type in MANIFEST_TYPES:
            try:
                found.append(await source.document(each))
            except NotFound:
                continue
    return found


async def _inline(
    source: Source,
    data: bytes,
    results: dict[str, tuple[str, ...]],
    leads: dict[str, str],
    layers: dict[str, Layer],
) -> None:
    """What an image's configuration says of its layers."""
    manifest = parse_manifest(data)
    if manifest.config.size > DOCUMENT_LIMIT:
        return
    try:
        config = parse_config(await _small(source, manifest.config))
        cache = base64.b64decode(config.inline_cache, validate=True)
    except (binascii.Error, SampanError):
        return  # attestations, artifacts
    diff_ids = config.rootfs.diff_ids
    if not cache or len(diff_ids) != len(manifest.layers):
        return
    graph = parse(cache, [each.digest for each in manifest.layers])
    times = [each.created or "" for each in config.history if not each.empty_layer]
    for number, (blob, diff_id) in enumerate(zip(manifest.layers, diff_ids, strict=True)):
        created = times[number] if len(times) == len(diff_ids) else ""
        layers.setdefault(
            blob.digest, Layer(blob.digest, blob.media_type, blob.size, diff_id, _time(created))
        )
    for key, chain in graph.results.items():
        results.setdefault(key, chain)
    for key, lead in graph.leads.items():
        leads.setdefault(key, lead)


async def _small(source: Source, descriptor: Descriptor) -> bytes:
    if not 0 <= descriptor.size <= _CONFIG_LIMIT:
        raise InvalidParameter(
            f"{descriptor.digest}: {descriptor.size} bytes are too many for a cache config"
        )
    parts = bytearray()
    async for chunk in source.blob(descriptor, 0, descriptor.size):
        parts += chunk
        if len(parts) > descriptor.size:
            break
    return verified(bytes(parts), descriptor)


def _layer(descriptor: Descriptor) -> Layer:
    if descriptor.size < 0:
        raise InvalidParameter(f"{descriptor.digest}: a layer of {descriptor.size} bytes")
    diff_id = descriptor.annotations.get(DIFF_ID, "")
    created = _time(descriptor.annotations.get(CREATED, ""))
    layer = Layer(descriptor.checked_digest, descriptor.media_type, descriptor.size, diff_id, created)
    chain_ids([diff_id])  # raises for what is no digest
    return layer


def _time(text: str) -> int:
    try:
        return parse_rfc3339(text) if text else 0
    except (InvalidParameter, msgspec.ValidationError):
        return 0
