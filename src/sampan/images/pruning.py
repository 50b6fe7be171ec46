"""`docker image prune`: unused images go, all of them or only those without a name."""

from __future__ import annotations

from sampan.engineapi.filters import Filters
from sampan.engineapi.image import DeleteItem, PruneReport
from sampan.errors import InvalidParameter
from sampan.images.filters import PRUNE_FILTERS, RecordFilter
from sampan.images.interface import ContainerUse
from sampan.images.parts import Collection, Parts
from sampan.images.records import ImageRecord
from sampan.images.resolution import is_id_prefix
from sampan.names.reference import parse_normalized


async def prune(parts: Parts, collection: Collection, filters: Filters) -> PruneReport:
    """Remove the records that nothing uses, collect, and say what went.

    `dangling` true (the default) takes unnamed images only, false also named ones. Raises `InvalidParameter`.
    """
    matcher = await RecordFilter.compile(parts, filters, PRUNE_FILTERS)
    dangling_only = filters.boolean("dangling", True)
    uses = await parts.uses()
    chosen = [
        record
        for record in await parts.records.all()
        if (record.is_dangling or not dangling_only)
        and not _is_used(record, uses)
        and await matcher.matches(record, ignore_dangling=True)
    ]
    manifests = {record.id: await parts.documents.manifests(record.target) for record in chosen}
    await _remove(parts, chosen, uses)
    collected = await collection.run()
    parts.documents.forget()
    gone = {each.id for each in collected.removed if each.kind == "content"}
    items: list[DeleteItem] = []
    for number, record in enumerate(chosen, start=1):
        items.append(DeleteItem(untagged=record.familiar()))
        if record.id in gone and all(other.id != record.id for other in chosen[number:]):
            items.append(DeleteItem(deleted=record.id))
            within = dict.fromkeys(each.descriptor.digest for each in manifests[record.id])
            items += [DeleteItem(deleted=each) for each in within if each in gone and each != record.id]
    return PruneReport(items or None, collected.bytes)


async def _remove(parts: Parts, records: list[ImageRecord], uses: list[ContainerUse]) -> None:
    """Remove the records. An image that a container was made from by its id stays, without names."""
    used = {use.image_id for use in uses}
    by_image: dict[str, list[ImageRecord]] = {}
    for record in records:
        by_image.setdefault(record.id, []).append(record)
    for image_id, chosen in by_image.items():
        every = {record.name for record in await parts.records.of(image_id)}
        last = every <= {record.name for record in chosen}
        if last and image_id in used:
            await parts.records.delete(record.name for record in chosen[1:])
            await parts.records.replace_by_dangling(chosen[0])
        else:
            await parts.records.delete(record.name for record in chosen)
        for record in chosen:
            if not record.is_dangling:
                parts.publish("untag", record.id, record.familiar())
        if last and image_id not in used:
            parts.publish("delete", chosen[0].id, chosen[0].familiar())


def _is_used(record: ImageRecord, uses: list[ContainerUse]) -> bool:
    """A container keeps the name that it was created by; the dangling record of its image; and by an id, whatever has that id."""
    for use in uses:
        if record.is_dangling and use.image_id == record.id:
            return True
        if is_id_prefix(use.image_id, use.image_reference):
            continue  # made from an id: the image stays, its names may go
        try:
            if str(parse_normalized(use.image_reference).with_default_tag()) == record.name:
                return True
        except InvalidParameter:
            continue
    return False
