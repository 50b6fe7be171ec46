"""`docker save`: images as one archive, an OCI layout with a `manifest.json` for older engines.

First a plan, which finds every image and can fail with an HTTP status; then the bytes, streamed from the
content store. A lease keeps what the plan names until the last byte has left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec

from sampan.content.interface import content_resource
from sampan.errors import InvalidParameter, NotFound
from sampan.images import layout
from sampan.images.documents import ImageManifest, choose_manifest
from sampan.images.parts import Parts
from sampan.images.records import ImageRecord
from sampan.images.resolution import is_id_prefix, no_such_image, resolved
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.names.reference import Reference, parse_normalized
from sampan.oci.image import ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Descriptor


class SavedImage(NamedTuple):
    """One image in an archive."""

    record: ImageRecord
    reference: Reference | None
    """The name that the archive gives it; None when it was asked for by its id."""


class SavePlan(NamedTuple):
    """What an archive will hold."""

    images: list[SavedImage]
    blobs: dict[str, Descriptor]
    index_json: bytes
    manifest_json: bytes


async def plan(parts: Parts, names: list[str], wanted: list[Platform]) -> SavePlan:
    """Find everything. Raises `NotFound`, `InvalidParameter` (no names at all)."""
    if not names:
        raise InvalidParameter("no images were named to be saved")
    images: list[SavedImage] = []
    for name in names:
        for image in await _find(parts, name):
            if image not in images:
                images.append(image)
    blobs: dict[str, Descriptor] = {}
    index: list[dict[str, Any]] = []
    docker: dict[str, dict[str, Any]] = {}
    for image in images:
        manifests = await parts.documents.manifests(image.record.target)
        target = _target(image, manifests, wanted)
        left_out = _other_platforms(manifests, wanted)
        for each in await parts.documents.present(target):
            if each.digest not in left_out:
                blobs[each.digest] = each
        index.append(_index_entry(target, image.reference))
        _add_docker_entry(docker, image, manifests, wanted)
    for digest in await _orphans(parts, blobs, images, wanted):
        del blobs[digest]
    return SavePlan(images, blobs, layout.index_file(index), layout.json_bytes(list(docker.values())))


async def stream(parts: Parts, saved: SavePlan) -> AsyncIterator[bytes]:
    """The archive's bytes: the same plan gives the same ones."""
    async with parts.content.leases.hold("save") as lease:
        await parts.content.leases.add(
            lease, *(content_resource(each.checked_digest) for each in saved.blobs.values())
        )
        yield layout.directory_header("blobs/") + layout.directory_header("blobs/sha256/")
        for digest in sorted(saved.blobs):
            blob = saved.blobs[digest]
            yield layout.file_header(layout.blob_path(digest), blob.size)
            async for chunk in parts.content.stream(blob.checked_digest):
                yield chunk
            yield layout.padding(blob.size)
        files = {
            "index.json": saved.index_json,
            "manifest.json": saved.manifest_json,
            "oci-layout": layout.layout_file(),
        }
        for name, data in files.items():
            yield layout.file_header(name, len(data)) + data + layout.padding(len(data))
        yield layout.END_OF_ARCHIVE
    for image in saved.images:
        await parts.publish_for("save", image.record, image.record.id)


async def _find(parts: Parts, text: str) -> list[SavedImage]:
    """The images that one argument means: a bare repository means all of its tags."""
    try:
        reference: Reference | None = parse_normalized(text)
    except InvalidParameter:
        reference = None
    try:
        record = await parts.resolver.record(text)
    except NotFound:
        record = None
    if record is not None:
        by_name = record.name == (str(reference.with_default_tag()) if reference else "")
        if (reference and reference.digest) or (not by_name and is_id_prefix(record.id, text)):
            return [SavedImage(record, None)]
    if reference is not None and reference.is_name_only:
        found = [
            each
            for each in await parts.records.all()
            if not each.is_dangling and each.reference().name == reference.name
        ]
        if found:
            return [SavedImage(each, each.reference()) for each in found]
    if record is None:
        raise no_such_image(text)
    return [SavedImage(record, None if record.is_dangling else record.reference())]


def _target(image: SavedImage, manifests: list[ImageManifest], wanted: list[Platform]) -> Descriptor:
    """What the archive's index names: the whole image, or the one manifest that was asked for."""
    for platform in wanted:
        chosen = choose_manifest(manifests, platform)
        if chosen is None:
            name = image.record.familiar()
            raise NotFound(
                f"no suitable export target found: image with reference {name} was found but does not provide the specified"
                f" platform ({platform})"
            )
        if len(wanted) == 1:
            return chosen.descriptor
    return image.record.target


def _other_platforms(manifests: list[ImageManifest], wanted: list[Platform]) -> set[str]:
    """Digests of manifests that were not asked for; attestations go with what they attest."""
    if not wanted:
        return set()
    kept = {
        each.descriptor.digest
        for each in manifests
        if each.platform and any(platforms.matches(each.platform, platform) for platform in wanted)
    }
    return {
        each.descriptor.digest
        for each in manifests
        if each.descriptor.digest not in kept and each.attests not in kept
    }


async def _orphans(
    parts: Parts, blobs: dict[str, Descriptor], images: list[SavedImage], wanted: list[Platform]
) -> set[str]:
    """Configs and layers that only manifests left out refer to."""
    if not wanted:
        return set()
    needed: set[str] = set()
    left: set[str] = set()
    for image in images:
        for each in await parts.documents.manifests(image.record.target):
            if each.manifest is not None:
                into = needed if each.descriptor.digest in blobs else left
                into.update(part.digest for part in (each.manifest.config, *each.manifest.layers))
    return (left - needed) & blobs.keys()


def _index_entry(target: Descriptor, reference: Reference | None) -> dict[str, Any]:
    annotations = {
        name: value
        for name, value in target.annotations.items()
        if name not in (ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME)
    }
    if reference is not None:
        annotations[ANNOTATION_IMAGE_NAME] = str(reference)
        if reference.tag:
            annotations[ANNOTATION_REF_NAME] = reference.tag
    entry: dict[str, Any] = msgspec.to_builtins(target)
    entry.pop("annotations", None)
    return {**entry, "annotations": annotations} if annotations else entry


def _add_docker_entry(
    entries: dict[str, dict[str, Any]],
    image: SavedImage,
    manifests: list[ImageManifest],
    wanted: list[Platform],
) -> None:
    """`manifest.json` knows one platform per image: the one asked for, else this machine's."""
    chosen = choose_manifest(manifests, wanted[0] if wanted else None)
    if chosen is None:
        return
    whole = resolved(image.record, chosen, ())
    entry = entries.get(whole.descriptor.digest)
    if entry is None:
        layers = [layer.digest for layer in whole.manifest.layers]
        entry = entries[whole.descriptor.digest] = layout.docker_manifest_entry(
            whole.manifest.config.digest, [], layers
        )
    if image.reference is not None and image.reference.tag:
        entry["RepoTags"] = [*(entry["RepoTags"] or []), image.reference.familiar()]
