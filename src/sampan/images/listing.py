"""`docker images`: one summary per image, the newest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec import UNSET

from sampan.engineapi.filters import Filters
from sampan.engineapi.image import ImagesDiskUsage, ImageSummary
from sampan.images.documents import ImageManifest, choose_manifest
from sampan.images.filters import LIST_FILTERS, RecordFilter, created_ns
from sampan.images.interface import ContainerUse
from sampan.images.lineage import Lineage
from sampan.images.manifests import summarize
from sampan.images.parts import Parts
from sampan.images.records import LABEL_PARENT, ImageRecord
from sampan.images.sizes import Sizer, chain_of, shared_sizes
from sampan.names.reference import Reference
from sampan.names.times import SECOND


class ListOptions(NamedTuple):
    """What a list should hold."""

    filters: Filters = Filters()
    all: bool = False
    """Also dangling images that others were committed from."""
    shared_size: bool = False
    manifests: bool = False
    containers: bool = False
    """Count the containers of each image."""
    descriptor: bool = True


class _Listed(NamedTuple):
    """An image on its way into the list."""

    records: list[ImageRecord]
    """The records that the filters let pass."""
    manifests: list[ImageManifest]


async def list_images(parts: Parts, options: ListOptions) -> list[ImageSummary]:
    """The summaries. Raises `InvalidParameter` and `NotFound` for bad filters."""
    matcher = await RecordFilter.compile(parts, options.filters, LIST_FILTERS)
    everything = await parts.records.all()
    hidden = set() if options.all else Lineage(everything).parents()
    chosen: dict[str, list[ImageRecord]] = {}
    for record in everything:
        if record.is_dangling and record.id in hidden:
            continue
        if await matcher.matches(record):
            chosen.setdefault(record.id, []).append(record)
    listed = [
        _Listed(records, await parts.documents.manifests(records[0].target)) for records in chosen.values()
    ]
    return await _summaries(parts, listed, options)


async def disk_usage(parts: Parts) -> ImagesDiskUsage:
    """All images with their shares; what several of them have counts once in the totals."""
    by_id: dict[str, list[ImageRecord]] = {}
    for record in await parts.records.all():
        by_id.setdefault(record.id, []).append(record)
    listed = [
        _Listed(records, await parts.documents.manifests(records[0].target)) for records in by_id.values()
    ]
    options = ListOptions(all=True, shared_size=True, containers=True, descriptor=True)
    items = await _summaries(parts, listed, options)
    active = {use.image_id for use in await parts.uses()} & by_id.keys()
    sizer = Sizer(parts)
    pieces = {image.records[0].id: await _pieces(parts, sizer, image) for image in listed}
    total = _together(pieces.values())
    needed = _together(pieces[id] for id in active)
    return ImagesDiskUsage(len(active), len(items), total - needed, total, items)


def in_words_of(summary: ImageSummary, version: tuple[int, int]) -> None:
    """What older API versions say differently, put into the summary."""
    if version < (1, 43):
        summary.repo_tags = summary.repo_tags or ["<none>:<none>"]
        summary.repo_digests = summary.repo_digests or ["<none>@<none>"]
    if version < (1, 44):
        summary.virtual_size = summary.size


def _together(images: Iterable[Mapping[str, int]]) -> int:
    """Bytes that images take together: every blob and every snapshot once."""
    return sum({piece: size for pieces in images for piece, size in pieces.items()}.values())


async def _pieces(parts: Parts, sizer: Sizer, image: _Listed) -> dict[str, int]:
    """Blobs and snapshots of an image, with their bytes: a digest names a blob or a snapshot, so both are told apart."""
    present = await parts.documents.present(image.records[0].target)
    return {
        **{f"blob {each.digest}": each.size for each in present},
        **{f"snapshot {name}": await sizer.of_snapshot(name) for name in _snapshots(image)},
    }


async def _summaries(parts: Parts, listed: list[_Listed], options: ListOptions) -> list[ImageSummary]:
    sizer = Sizer(parts)
    uses = await parts.uses() if options.containers or options.manifests else []
    summaries = [await _summary(parts, image, options, uses, sizer) for image in listed]
    if options.shared_size:
        shares = shared_sizes([await _pieces(parts, sizer, image) for image in listed])
        for summary, share in zip(summaries, shares, strict=True):
            summary.shared_size = share
    return sorted(summaries, key=lambda summary: (-summary.created, summary.id))


async def _summary(
    parts: Parts, image: _Listed, options: ListOptions, uses: list[ContainerUse], sizer: Sizer
) -> ImageSummary:
    record = image.records[0]
    best = choose_manifest(image.manifests, None)
    config = best.config.config if best and best.config else None
    created = await created_ns(parts, record)
    tags, digests = repository_names(image.records)
    return ImageSummary(
        containers=Counter(use.image_id for use in uses)[record.id] if options.containers else -1,
        created=(record.created_ns if created is None else created) // SECOND,
        id=record.id,
        labels=(config.labels or {}) if config else None,
        parent_id=record.labels.get(LABEL_PARENT, ""),
        descriptor=record.target if options.descriptor else UNSET,
        manifests=await summarize(image.manifests, record.id, uses, sizer) if options.manifests else UNSET,
        repo_digests=digests,
        repo_tags=tags,
        size=sum([(await sizer.of_manifest(each)).total for each in image.manifests]),
    )


def repository_names(records: list[ImageRecord]) -> tuple[list[str], list[str]]:
    """`RepoTags` and `RepoDigests` of one image: its names, and each repository with the image's digest, as users read them."""
    tags: list[str] = []
    digests: list[str] = []
    for record in records:
        if record.is_dangling:
            continue
        reference = record.reference()
        if reference.tag:
            tags.append(reference.familiar())
        digests.append(Reference(reference.domain, reference.path, "", record.id).familiar())
    return tags, list(dict.fromkeys(digests))


def _snapshots(image: _Listed) -> set[str]:
    return {name for manifest in image.manifests for name in chain_of(manifest)}
