"""What the verbs on images work with, in one hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sampan.content.interface import ContentStore, Resource
from sampan.events import EventBus
from sampan.images.documents import Documents
from sampan.images.interface import ContainerUse
from sampan.images.records import ImageRecord, ImageRecords
from sampan.images.resolution import Resolver
from sampan.snapshots.interface import Snapshotter

if TYPE_CHECKING:
    from collections.abc import Sequence


class WorkerPool(Protocol):
    """The part of `sampan.zygote.workers.Workers` that images use."""

    async def run(
        self,
        target: str,
        args: dict[str, Any],
        fds: Sequence[int] = (),
        progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> Any: ...


class Collection(Protocol):
    """The part of `sampan.content.gc.Collector` that images use."""

    def add_roots(self, source: Callable[[], Awaitable[list[Resource]]]) -> None: ...

    async def run(self) -> Collected: ...


class Collected(Protocol):
    """What a collection did."""

    @property
    def bytes(self) -> int: ...

    @property
    def removed(self) -> list[Resource]: ...


class Parts(NamedTuple):
    """The stores below, and the ways to read images in them."""

    records: ImageRecords
    documents: Documents
    resolver: Resolver
    content: ContentStore
    snapshots: Snapshotter
    workers: WorkerPool
    events: EventBus
    uses: Callable[[], Awaitable[list[ContainerUse]]]

    def publish(self, action: str, image_id: str, name: str, labels: Mapping[str, str] | None = None) -> None:
        """An image event, with Docker's attributes: the image's name, and its labels unless it loses a name or goes."""
        self.events.publish("image", action, image_id, {**(labels or {}), "name": name})

    async def publish_for(self, action: str, record: ImageRecord, name: str) -> None:
        """An image event whose labels are read from the image itself, when they can be."""
        labels: Mapping[str, str] = {}
        for each in await self.documents.manifests(record.target):
            if each.config is not None and each.config.config is not None:
                labels = each.config.config.labels or {}
                break
        self.publish(action, record.id, name, labels)
