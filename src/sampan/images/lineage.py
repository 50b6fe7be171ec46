"""Which image was committed from which: recorded as a label of the child's record, because manifests do not say it."""

from __future__ import annotations

from sampan.images.records import LABEL_PARENT, ImageRecord, ImageRecords


class Lineage:
    """Parents and children among all records at one moment."""

    def __init__(self, records: list[ImageRecord]) -> None:
        self._by_id: dict[str, list[ImageRecord]] = {}
        for record in records:
            self._by_id.setdefault(record.id, []).append(record)

    @classmethod
    async def read(cls, records: ImageRecords) -> Lineage:
        """The lineage as it is now."""
        return cls(await records.all())

    def records(self, image_id: str) -> list[ImageRecord]:
        """All records of an image."""
        return self._by_id.get(image_id, [])

    def parent(self, image_id: str) -> str:
        """Id of the image that this one was committed from; empty when it was not, or that image is gone."""
        for record in self.records(image_id):
            parent = record.labels.get(LABEL_PARENT, "")
            if parent in self._by_id:
                return parent
        return ""

    def ancestors(self, image_id: str) -> list[str]:
        """The parent, its parent and so on, each once."""
        found: list[str] = []
        while (image_id := self.parent(image_id)) and image_id not in found:
            found.append(image_id)
        return found

    def parents(self) -> set[str]:
        """Every image that another one was committed from."""
        return {parent for image_id in self._by_id if (parent := self.parent(image_id))}

    def has_children(self, image_id: str) -> bool:
        return image_id in self.parents()
