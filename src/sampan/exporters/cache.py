"""A build's results as cache that other engines can import: BuildKit's cache config, and the layers that it names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from sampan.content.interface import ContentStore, Lease
from sampan.exporters.stored import StoredImage
from sampan.llb.graph import Edge, Graph
from sampan.names.times import format_rfc3339_nano
from sampan.oci.image import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    describe,
    encode,
)
from sampan.ops.importing import CREATED, DIFF_ID
from sampan.ops.layering import LayerForm, Layering
from sampan.registry.copying import Destination
from sampan.solver import keys
from sampan.solver.build import Build
from sampan.solver.cacheconfig import CACHE_CONFIG, CacheGraph, compose
from sampan.solver.layers import Layer

Mode = Literal["min", "max"]


class Collected(NamedTuple):
    """What a build can give to others."""

    results: dict[str, list[Layer]]
    """By canonical key, the layers, lowest first."""
    leads: dict[str, str]


class CacheDocument(NamedTuple):
    """In which form a cache is written."""

    image_manifest: bool = True
    """A manifest, as images have; else an index, as BuildKit wrote before."""
    oci_types: bool = True


class CacheExporter:
    """See the module."""

    def __init__(self, layering: Layering, content: ContentStore) -> None:
        self._layering = layering
        self._content = content

    async def collect(self, build: Build, graphs: Sequence[Graph], mode: Mode, lease: Lease) -> Collected:
        """The keys of all vertices; the results of all (`max`), or of those only that the finished results stand on (`min`)."""
        collected = Collected({}, {})
        final: list[list[Layer]] = []
        if mode == "min":
            for graph in graphs:
                layers = await self._layers(build, graph.result, lease) if graph.result else None
                final += [layers] if layers else []
        for edge in _edges(graphs):
            key = await build.key(edge.vertex)
            if not key.kept:
                continue
            for further in key.further:
                if further != key.canonical:
                    collected.leads[further] = key.canonical
            if mode == "min" and not await self._may_be_in(build, edge, final):
                continue
            layers = await self._layers(build, edge, lease)
            if layers and (mode == "max" or any(_is_prefix(layers, each) for each in final)):
                collected.results[keys.output_key(key.canonical, edge.index)] = layers
        return collected

    async def _may_be_in(self, build: Build, edge: Edge, final: Sequence[Sequence[Layer]]) -> bool:
        """Whether a result can be below one of those: a layer is not made only to see that it is not."""
        _, tree = await build.stored(edge)
        if tree is None:
            return True  # imported: its layers are known
        if not tree.snapshot:
            return False
        known = await self._layering.known(tree.snapshot)
        return known is not None and any(_is_prefix(known, each) for each in final)

    async def _layers(self, build: Build, edge: Edge, lease: Lease) -> list[Layer] | None:
        key, tree = await build.stored(edge)
        if tree is not None:
            return await self._layering.layers(tree, lease)
        for source in await build.imports.sources():
            if source.has(key):
                return await source.layers(key, lease)
        return None

    async def write(
        self,
        collected: Collected,
        destination: Destination,
        form: LayerForm,
        document: CacheDocument,
        lease: Lease,
    ) -> Descriptor:
        """Put it somewhere; the manifest or index."""
        made: dict[str, Layer] = {}
        for layers in collected.results.values():
            for layer in layers:
                if layer.digest not in made:
                    (made[layer.digest],) = await self._layering.in_form([layer], form, lease)
        results = {
            key: tuple(made[layer.digest].digest for layer in layers)
            for key, layers in collected.results.items()
        }
        blobs = {each.digest: _described(each) for each in made.values()}
        source = StoredImage(self._content)
        for blob in blobs.values():
            await destination.put_blob(blob, source)
        data = compose(CacheGraph(results, collected.leads))
        config = describe(data, CACHE_CONFIG)
        await destination.put_blob(config, StoredImage(self._content, None, {config.digest: data}))
        manifest, text = _document(config, list(blobs.values()), document)
        await destination.put_manifest(manifest, text, named=True)
        return manifest


def inline(collected: Collected) -> bytes:
    """What an image's configuration says of its own layers."""
    results = {key: tuple(each.digest for each in layers) for key, layers in collected.results.items()}
    return compose(CacheGraph(results, collected.leads), image_layers=())


def _document(config: Descriptor, layers: list[Descriptor], form: CacheDocument) -> tuple[Descriptor, bytes]:
    if form.image_manifest:
        kind = OCI_MANIFEST if form.oci_types else DOCKER_MANIFEST
        text = encode(Manifest(schema_version=2, media_type=kind, config=config, layers=layers))
    else:
        kind = OCI_INDEX if form.oci_types else DOCKER_INDEX
        text = encode(Index(schema_version=2, media_type=kind, manifests=[*layers, config]))
    return describe(text, kind), text


def _described(layer: Layer) -> Descriptor:
    annotations = {DIFF_ID: layer.diff_id}
    if layer.created_ns:
        annotations[CREATED] = format_rfc3339_nano(layer.created_ns)
    return Descriptor(
        media_type=layer.media_type, digest=layer.digest, size=layer.size, annotations=annotations
    )


def _is_prefix(layers: Sequence[Layer], whole: Sequence[Layer]) -> bool:
    return [each.diff_id for each in layers] == [each.diff_id for each in whole[: len(layers)]]


def _edges(graphs: Sequence[Graph]) -> list[Edge]:
    """All edges of the graphs, each once."""
    found: dict[tuple[str, int], Edge] = {}
    for graph in graphs:
        vertices = list(graph.vertices())
        edges = [edge for vertex in vertices for edge in vertex.inputs]
        for edge in [*edges, *([graph.result] if graph.result else [])]:
            found[edge.vertex.digest, edge.index] = edge
    return list(found.values())
