"""The filters of `docker images` and `docker image prune`, with dockerd's meaning of each."""

from __future__ import annotations

import time
from collections.abc import Callable

from sampan.engineapi.filters import Filters
from sampan.errors import InvalidParameter
from sampan.images.documents import choose_manifest
from sampan.images.parts import Parts
from sampan.images.records import ImageRecord
from sampan.names.times import parse_filter_time, parse_rfc3339

LIST_FILTERS = ("dangling", "label", "label!", "before", "since", "reference", "until")
PRUNE_FILTERS = ("dangling", "label", "label!", "until")

Condition = Callable[[ImageRecord], bool]


class RecordFilter:
    """Filters compiled once per request; `matches` says whether one record passes.

    `before` and `since` compare when the images were created, as their configurations say; `until` when they came to this engine.
    """

    def __init__(self, parts: Parts, filters: Filters) -> None:
        self._parts = parts
        self._filters = filters
        self._until: int | None = None
        self._before: list[int] = []
        self._since: list[int] = []

    @classmethod
    async def compile(cls, parts: Parts, filters: Filters, accepted: tuple[str, ...]) -> RecordFilter:
        """Raises `InvalidParameter` for unknown filters and bad values, `NotFound` for unknown images in `before` and `since`."""
        filters.validate(accepted)
        compiled = cls(parts, filters)
        if values := filters.get("until"):
            if len(values) > 1:
                raise InvalidParameter("more than one until filter specified")
            compiled._until = _until(values[0])
        for name, bounds in (("before", compiled._before), ("since", compiled._since)):
            for text in filters.get(name):
                created = await created_ns(parts, await parts.resolver.record(text))
                if created is not None:
                    bounds.append(created)
        return compiled

    async def matches(self, record: ImageRecord, *, ignore_dangling: bool = False) -> bool:
        """Whether all filters let the record pass; prune gives `dangling` a meaning of its own and ignores it here."""
        if (
            not ignore_dangling
            and self._filters.boolean("dangling", record.is_dangling) is not record.is_dangling
        ):
            return False
        if self._until is not None and record.created_ns >= self._until:
            return False
        return (
            self._matches_reference(record)
            and await self._matches_creation(record)
            and await self._matches_labels(record)
        )

    def _matches_reference(self, record: ImageRecord) -> bool:
        patterns = self._filters.get("reference")
        if not patterns:
            return True
        return not record.is_dangling and any(record.reference().matches(pattern) for pattern in patterns)

    async def _matches_creation(self, record: ImageRecord) -> bool:
        if not self._before and not self._since:
            return True
        created = await created_ns(self._parts, record)
        if created is None:
            return False
        return all(created < bound for bound in self._before) and all(
            created > bound for bound in self._since
        )

    async def _matches_labels(self, record: ImageRecord) -> bool:
        if "label" not in self._filters and "label!" not in self._filters:
            return True
        for manifest in await self._parts.documents.manifests(record.target):
            if manifest.config is not None:
                labels = (manifest.config.config.labels if manifest.config.config else None) or {}
                if self._filters.labels(labels) and self._filters.labels_absent(labels):
                    return True
        return False


def _until(text: str) -> int:
    try:
        return parse_filter_time(text, time.time_ns())
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid value for 'until' filter: {error}") from error


async def created_ns(parts: Parts, record: ImageRecord) -> int | None:
    """When the image was made, by the configuration of the platform that this machine prefers; None when it does not say."""
    chosen = choose_manifest(await parts.documents.manifests(record.target), None)
    if chosen is None or chosen.config is None or not chosen.config.created:
        return None
    try:
        return parse_rfc3339(chosen.config.created)
    except InvalidParameter:
        return None
