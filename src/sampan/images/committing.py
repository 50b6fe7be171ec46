"""New images out of this engine: `docker commit`, and whatever else ends in a configuration and layers.

The order is that of every write here: layer blob, unpacked snapshot, config blob, manifest blob, then the name.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from sampan.content.interface import Lease, content_resource, snapshot_resource
from sampan.errors import InvalidParameter
from sampan.faults import point
from sampan.images.changes import apply_changes
from sampan.images.inspection import IMAGE_FIELDS
from sampan.images.interface import CommitRequest, ResolvedImage
from sampan.images.parts import Parts
from sampan.images.records import LABEL_PARENT, ImageRecord, dangling_name
from sampan.images.tagging import target_reference
from sampan.images.unpacking import LAYERS_MAX, Unpacker
from sampan.names import platform as platforms
from sampan.names.digest import Digest
from sampan.names.times import format_rfc3339_nano
from sampan.oci.image import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    ContainerConfig,
    Descriptor,
    History,
    ImageConfig,
    Index,
    Manifest,
    RootFS,
    chain_ids,
    describe,
    encode,
)


class NewImage(NamedTuple):
    """An image to be written: everything but its digests."""

    config: ImageConfig
    layers: list[Descriptor]
    name: str
    """Canonical name; empty for a dangling image."""
    parent: str = ""
    """Id of the image that it was made from."""
    annotations: Mapping[str, str] = MappingProxyType({})
    """Of the manifest."""
    manifest_type: str = OCI_MANIFEST
    config_type: str = OCI_CONFIG


async def write_documents(parts: Parts, image: NewImage, lease: Lease) -> tuple[Descriptor, Descriptor]:
    """Write config and manifest of an image whose layers are in the content store, under `lease`; their descriptors.

    Raises `InvalidParameter` ("max depth exceeded") for more layers than can be stacked.
    """
    if len(image.layers) > LAYERS_MAX:
        raise InvalidParameter("max depth exceeded")
    chain = chain_ids(image.config.rootfs.diff_ids)
    config_data = encode(image.config)
    unpacked = [snapshot_resource(chain[-1])] if chain else []
    await parts.content.put(config_data, lease=lease, references=unpacked)
    config = describe(config_data, image.config_type)
    manifest = encode(
        Manifest(
            schema_version=2,
            media_type=image.manifest_type,
            config=config,
            layers=image.layers,
            annotations=dict(image.annotations),
        )
    )
    needed = [content_resource(each.checked_digest) for each in (config, *image.layers)]
    await parts.content.put(manifest, lease=lease, references=needed)
    return config, describe(manifest, image.manifest_type)


async def write_index(
    parts: Parts,
    manifests: Sequence[Descriptor],
    lease: Lease,
    annotations: Mapping[str, str] = MappingProxyType({}),
    media_type: str = OCI_INDEX,
) -> Descriptor:
    """Write an index of manifests that are in the content store, under `lease`; its descriptor."""
    index = Index(
        schema_version=2, media_type=media_type, manifests=list(manifests), annotations=dict(annotations)
    )
    data = encode(index)
    needed = [content_resource(each.checked_digest) for each in manifests]
    await parts.content.put(data, lease=lease, references=needed)
    return describe(data, media_type)


async def keep(parts: Parts, target: Descriptor) -> None:
    """Make what is written an image of the engine's, without a name if it has none yet."""
    if not await parts.records.of(target.digest):
        # For which platform a manifest is, its configuration says: records have it from nowhere else.
        await parts.records.put(dangling_name(target.digest), msgspec.structs.replace(target, platform=None))


async def create_from(parts: Parts, image: NewImage, lease: Lease) -> ImageRecord:
    """The same, and its name: it is an image of the engine's then."""
    _, target = await write_documents(parts, image, lease)
    labels = {LABEL_PARENT: image.parent} if image.parent else {}
    replaced = await parts.records.put(image.name or dangling_name(target.digest), target, labels)
    if replaced.previous is not None:
        parts.publish("untag", replaced.previous.id, replaced.previous.familiar())
    record = await parts.records.get(image.name or dangling_name(target.digest))
    assert record is not None  # written above; its removal would be another caller's, after this
    return record


async def commit(parts: Parts, unpacker: Unpacker, container_id: str, request: CommitRequest) -> str:
    """See `interface.Images.commit`."""
    reference = target_reference(request.repository, request.tag)
    config = apply_changes(_image_config(request.config), request.changes)
    base = request.image
    async with parts.content.leases.hold(f"commit of {container_id}") as lease:
        layers = list(base.manifest.layers) if base else []
        diff_ids = list(base.config.rootfs.diff_ids) if base else []
        if len(layers) >= LAYERS_MAX:
            raise InvalidParameter("max depth exceeded")
        if base is not None:
            await unpacker.ensure(base.manifest, base.config, lease)
        layer, diff_id = await _diff(parts, container_id, lease)
        point("commit.layer-stored")
        if diff_id:
            layers.append(layer)
            diff_ids.append(diff_id)
            await unpacker.layer(layer, diff_id, list(chain_ids(diff_ids)), lease)
        now = format_rfc3339_nano(time.time_ns())
        step = History(
            created=now,
            created_by=" ".join(request.container_config_cmd),
            author=request.author,
            comment=request.comment,
            empty_layer=not diff_id,
        )
        platform = base.platform if base else platforms.local()
        image = ImageConfig(
            created=now,
            author=request.author or (base.config.author if base else ""),
            architecture=platform.architecture,
            variant=platform.variant,
            os=platform.os,
            config=config,
            rootfs=RootFS(diff_ids=diff_ids),
            history=[*_history(base), step],
        )
        new = NewImage(image, layers, str(reference) if reference else "", base.id if base else "")
        point("commit.layer-unpacked")
        record = await create_from(parts, new, lease)
        point("commit.image-written")
    await parts.publish_for("create", record, record.id)
    if reference is not None:
        await parts.publish_for("tag", record, reference.familiar())
    return record.id


def _history(base: ResolvedImage | None) -> list[History]:
    """The steps of the base; one per layer when it tells none, so that steps and layers still correspond."""
    if base is None:
        return []
    return base.config.history or [History(created=base.config.created) for _ in base.config.rootfs.diff_ids]


def _image_config(container: dict[str, Any]) -> ContainerConfig:
    """The part of a container's configuration that is an image's: host name, terminal and so on stay behind."""
    kept = {name: value for name, value in container.items() if name in IMAGE_FIELDS and value is not None}
    return msgspec.convert(kept, ContainerConfig)


async def _diff(parts: Parts, container_id: str, lease: Lease) -> tuple[Descriptor, str]:
    """The container's changes as a layer in the content store; an empty diff id when there are none."""
    source = await parts.snapshots.apply_target(container_id)
    ingest = await parts.content.ingest(f"commit-{container_id}-{lease.id}", lease=lease)
    assert ingest is not None  # the digest is not known, so nothing can be there already
    async with ingest:
        try:
            result = await parts.workers.run(
                "sampan.archive.diff:diff_job", source.job_args(), fds=[ingest.fileno()]
            )
            if not result["entries"]:
                await ingest.abort()
                return Descriptor(digest=result["digest"], size=0), ""
            info = await ingest.commit(digest=Digest(result["digest"]), verified=True)
        except BaseException:
            await ingest.abort()
            raise
    return Descriptor(media_type=OCI_LAYER, digest=info.digest, size=info.size), str(result["diff_id"])
