"""A result's layers: each snapshot against the one below it, as a blob, made once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Literal, NamedTuple

from sampan.content.interface import ContentStore, Lease, content_resource
from sampan.errors import NotSupported
from sampan.names.digest import Digest
from sampan.oci.image import (
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_ZSTD,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
)
from sampan.ops.trees import Trees
from sampan.snapshots.interface import Snapshotter
from sampan.solver.interface import Tree
from sampan.solver.layers import Layer, LayerTable

Compression = Literal["none", "gzip", "zstd"]


class LayerForm(NamedTuple):
    """How the layers of steps are written (those of base images stay as they came)."""

    compression: Compression = "none"
    latest_ns: int | None = None
    """No file is said to be younger: with it, the same files made at another time are the same layer."""
    level: int | None = None
    """Of the compression; None is the usual one."""
    forced: bool = False
    """Base images' layers too."""


AS_IT_IS = LayerForm()
_TYPES: dict[Compression, str] = {"none": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}
_COMPRESSED: dict[str, Compression] = {
    **{media_type: compression for compression, media_type in _TYPES.items()},
    DOCKER_LAYER: "none",
    DOCKER_LAYER_GZIP: "gzip",
    DOCKER_LAYER_ZSTD: "zstd",
}


def compression_of(media_type: str) -> Compression | None:
    """How a layer of that type is compressed; None when the type does not say."""
    return _COMPRESSED.get(media_type)


class Layering:
    """Makes layers. One per engine: what is being made is made once."""

    def __init__(self, trees: Trees, content: ContentStore, table: LayerTable) -> None:
        self._trees = trees
        self._content = content
        self._table = table
        self._making: dict[str, asyncio.Lock] = {}

    @property
    def _snapshots(self) -> Snapshotter:
        return self._trees.snapshots

    async def layers(self, tree: Tree, lease: Lease) -> list[Layer]:
        """The layers of a result, lowest first; their blobs are there, and in the lease."""
        if tree.directory:
            raise NotSupported("a client's directory as an image")
        return await self._of(tree.snapshot, lease) if tree.snapshot else []

    async def known(self, snapshot: str) -> list[Layer] | None:
        """The layers of a snapshot, as far as they were ever made."""
        return await self._table.find(snapshot)

    async def in_form(self, layers: Sequence[Layer], form: LayerForm, lease: Lease) -> list[Layer]:
        """The same layers in another form; their blobs are there, and in the lease."""
        if form == AS_IT_IS:
            return list(layers)
        return [await self._in_form(each, form, lease) for each in layers]

    async def _in_form(self, layer: Layer, form: LayerForm, lease: Lease) -> Layer:
        """A base image's layer keeps its times, and one that has the form already keeps its bytes."""
        if not layer.created_ns:
            if not form.forced:
                return layer
            form = form._replace(latest_ns=None)
        if form.latest_ns is None and compression_of(layer.media_type) == form.compression:
            return layer
        return await self._rewritten(layer, form, lease)

    async def _rewritten(self, layer: Layer, form: LayerForm, lease: Lease) -> Layer:
        ingest = await self._content.ingest(f"form-{layer.digest}-{lease.id}", lease=lease)
        assert ingest is not None  # the digest is not known, so nothing can be there already
        blob = await self._content.open(Digest(layer.digest))
        try:
            async with ingest:
                try:
                    result = await self._trees.workers.run(
                        "sampan.ops.layer_jobs:rewrite_job",
                        {
                            "compression": form.compression,
                            "latest_ns": form.latest_ns,
                            "level": form.level,
                        },
                        fds=[blob, ingest.fileno()],
                    )
                    info = await ingest.commit(digest=Digest(result["digest"]), verified=True)
                except BaseException:
                    await ingest.abort()
                    raise
        finally:
            os.close(blob)
        kind = _TYPES[form.compression]
        return Layer(info.digest, kind, info.size, str(result["diff_id"]), layer.created_ns)

    async def _of(self, snapshot: str, lease: Lease) -> list[Layer]:
        """Snapshots that lack a row lie above those that have one: from there up they are made."""
        missing: list[str] = []
        found: list[Layer] = []
        for name in await self._snapshots.chain(snapshot):
            known = await self._known(name, lease)
            if known is not None:
                found = known
                break
            missing.append(name)
        made = await asyncio.gather(
            *(self._once(name, lease) for name in reversed(missing)), return_exceptions=True
        )
        for name, layer in zip(reversed(missing), made, strict=True):
            if isinstance(layer, BaseException):
                raise layer
            found = [*found, layer]
            await self._table.store(name, found)
        return found

    async def _once(self, snapshot: str, lease: Lease) -> Layer:
        """A snapshot's difference; who asks while it is made has the same."""
        async with self._making.setdefault(snapshot, asyncio.Lock()):
            known = await self._known(snapshot, lease)
            layer = known[-1] if known else await self._difference(snapshot, lease)
        self._making.pop(snapshot, None)
        return layer

    async def _known(self, snapshot: str, lease: Lease) -> list[Layer] | None:
        layers = await self._table.find(snapshot)
        if layers is None:
            return None
        await self._content.leases.add(lease, *(content_resource(Digest(each.digest)) for each in layers))
        there = await self._content.exists(*(Digest(each.digest) for each in layers))
        return layers if there else None

    async def _difference(self, snapshot: str, lease: Lease) -> Layer:
        target = await self._snapshots.apply_target(snapshot)
        ingest = await self._content.ingest(f"layer-{snapshot}-{lease.id}", lease=lease)
        assert ingest is not None  # the digest is not known, so nothing can be there already
        async with ingest:
            try:
                result = await self._trees.workers.run(
                    "sampan.archive.diff:diff_job", target.job_args(), fds=[ingest.fileno()]
                )
                info = await ingest.commit(digest=Digest(result["digest"]), verified=True)
            except BaseException:
                await ingest.abort()
                raise
        created = (await self._snapshots.stat(snapshot)).created_ns
        return Layer(info.digest, OCI_LAYER, info.size, str(result["diff_id"]), created)
