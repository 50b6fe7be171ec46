"""`docker history`: the steps that the image's configuration tells, the newest first, each with its layer's size."""

from __future__ import annotations

from sampan.engineapi.image import HistoryItem
from sampan.errors import InvalidParameter
from sampan.images.interface import ResolvedImage
from sampan.images.lineage import Lineage
from sampan.images.parts import Parts
from sampan.images.sizes import Sizer
from sampan.names.times import SECOND, parse_rfc3339
from sampan.oci.image import History, chain_ids

MISSING = "<missing>"
"""Where a classic builder's intermediate image would be named."""


async def history(parts: Parts, image: ResolvedImage) -> list[HistoryItem]:
    """The lines for one platform of an image.

    Raises `InvalidParameter` when the configuration tells of more layers than there are.
    """
    sizer = Sizer(parts)
    snapshots = list(chain_ids(image.config.rootfs.diff_ids))
    steps = image.config.history or [History(created=image.config.created) for _ in snapshots]
    items: list[HistoryItem] = []
    for step in steps:
        size = 0
        if not step.empty_layer:
            if not snapshots:
                raise InvalidParameter(
                    f"image {image.id}: its history has more layers than its root file system"
                )
            size = await sizer.of_snapshot(snapshots.pop(0))
        items.append(
            HistoryItem(
                comment=step.comment,
                created=_seconds(step.created),
                created_by=step.created_by,
                id=MISSING,
                size=size,
                tags=None,
            )
        )
    items.reverse()
    await _name_ancestors(parts, image.id, items)
    return items


async def _name_ancestors(parts: Parts, image_id: str, items: list[HistoryItem]) -> None:
    """Give the first line the image's own id and names, the following ones those of the images that it was committed from."""
    lineage = await Lineage.read(parts.records)
    for item, ancestor in zip(items, [image_id, *lineage.ancestors(image_id)], strict=False):
        item.id = ancestor
        item.tags = [
            record.familiar() for record in lineage.records(ancestor) if not record.is_dangling
        ] or None


def _seconds(created: str | None) -> int:
    if not created:
        return 0
    try:
        return parse_rfc3339(created) // SECOND
    except InvalidParameter:
        return 0
