"""The image service: every verb on images, over the stores that the engine opened.

::

    images = ImageService(database, content, snapshots, workers, collector, events, registry)
    images.register_container_uses(containers.image_uses)
    await images.recover({container ids})
    await images.load(body, report=send)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from collections.abc import Collection as Ids
from typing import TYPE_CHECKING

import msgspec

from sampan.content.interface import ContentStore, Lease
from sampan.engineapi.filters import Filters
from sampan.engineapi.image import (
    DeleteItem,
    HistoryItem,
    ImageInspect,
    ImagesDiskUsage,
    ImageSummary,
    PruneReport,
)
from sampan.errors import Conflict
from sampan.events import EventBus
from sampan.images import (
    committing,
    history,
    importing,
    inspection,
    listing,
    loading,
    pruning,
    removal,
    saving,
    searching,
    tagging,
)
from sampan.images.collection import Housekeeping
from sampan.images.committing import NewImage
from sampan.images.documents import Documents
from sampan.images.importing import ImportRequest
from sampan.images.interface import CommitRequest, ContainerUse, ContainerUses, ResolvedImage
from sampan.images.listing import ListOptions
from sampan.images.loading import Report
from sampan.images.parts import Collection, Parts, WorkerPool
from sampan.images.pulling import Puller
from sampan.images.pushing import PushImages
from sampan.images.records import ImageRecords
from sampan.images.resolution import Resolver
from sampan.images.saving import SavePlan
from sampan.images.searching import DistributionInspect
from sampan.images.transfers import BlobTransfers
from sampan.images.trusting import Admission, Trust
from sampan.images.unpacking import Unpacker, view_key
from sampan.names.platform import Platform
from sampan.names.reference import Reference
from sampan.oci.image import Descriptor
from sampan.registry.client import RegistryClient
from sampan.registry.credentials import Credentials
from sampan.registry.search import SearchResult
from sampan.snapshots.interface import Snapshotter
from sampan.store import Database

if TYPE_CHECKING:
    from sampan.oci.runtime import Mount


class ImageService:
    """See the module; `interface.Images` documents what other services use of it."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        snapshots: Snapshotter,
        workers: WorkerPool,
        collection: Collection,
        events: EventBus,
        registry: RegistryClient,
    ) -> None:
        records = ImageRecords(database)
        documents = Documents(content)
        resolver = Resolver(records, documents)
        self._registered: ContainerUses | None = None
        self.parts = Parts(records, documents, resolver, content, snapshots, workers, events, self._uses)
        self.registry = registry
        self.unpacker = Unpacker(self.parts)
        transfers = BlobTransfers(content, lambda: registry.settings)
        self.trust = Trust(registry, workers)
        self._puller = Puller(self.parts, self.unpacker, registry, transfers, self.trust)
        self._pusher = PushImages(self.parts, registry)
        self.housekeeping = Housekeeping(self.parts, collection)
        self._collection = collection
        self._pruning = False

    # -- for other services

    def register_container_uses(self, uses: ContainerUses) -> None:
        """See `interface.Images`."""
        self._registered = uses

    async def resolve(self, reference: str, platform: Platform | None = None) -> ResolvedImage:
        """See `interface.Images`."""
        return await self.parts.resolver.image(reference, platform)

    async def prepare_rootfs(self, container_id: str, image: ResolvedImage) -> list[Mount]:
        """See `interface.Images`."""
        return await self.unpacker.prepare_rootfs(container_id, image)

    async def rootfs_mounts(self, container_id: str) -> list[Mount]:
        """See `interface.Images`."""
        return await self.parts.snapshots.mounts(container_id)

    async def release_rootfs(self, container_id: str) -> None:
        """See `interface.Images`."""
        await self.unpacker.release_rootfs(container_id)

    async def prepare_view(self, container_id: str, number: int, image: ResolvedImage) -> list[Mount]:
        """See `interface.Images`."""
        return await self.unpacker.prepare_view(view_key(container_id, number), image)

    async def release_view(self, container_id: str, number: int) -> None:
        """See `interface.Images`."""
        await self.unpacker.release_rootfs(view_key(container_id, number))

    async def commit(self, container_id: str, request: CommitRequest) -> str:
        """See `interface.Images`."""
        return await committing.commit(self.parts, self.unpacker, container_id, request)

    async def create_from(self, image: NewImage, lease: Lease) -> str:
        """Write an image whose layers are in the content store and unpacked, all under `lease`; its id. For the builder."""
        return (await committing.create_from(self.parts, image, lease)).id

    async def keep(self, target: Descriptor, names: Sequence[Reference]) -> None:
        """Make what is written under a lease an image of the engine's, with these names or without any. For the builder."""
        await committing.keep(self.parts, target)
        for name in names:
            if name.digest:
                await self.parts.records.put(str(name), msgspec.structs.replace(target, platform=None))
            else:
                await tagging.tag(self.parts, target.digest, name.familiar_name(), name.tag or "latest")

    async def recover(self, containers: Ids[str]) -> None:
        """Once at start, before any request: put away what a killed engine left half-done. `containers` are the ids that
        exist.
        """
        await self.housekeeping.recover(containers)

    async def close(self) -> None:
        """Stop background work."""
        await self.housekeeping.close()

    # -- the verbs

    async def summaries(self, options: ListOptions) -> list[ImageSummary]:
        """`docker images`."""
        return await listing.list_images(self.parts, options)

    async def inspect(
        self,
        reference: str,
        version: tuple[int, int],
        platform: Platform | None = None,
        manifests: bool = False,
    ) -> ImageInspect:
        """`docker image inspect`."""
        return await inspection.inspect(self.parts, reference, version, platform, manifests)

    async def history(self, reference: str, platform: Platform | None = None) -> list[HistoryItem]:
        """`docker history`."""
        return await history.history(self.parts, await self.resolve(reference, platform))

    async def tag(self, reference: str, repository: str, tag: str) -> None:
        """`docker tag`."""
        await tagging.tag(self.parts, reference, repository, tag)

    async def remove(self, reference: str, *, force: bool = False, prune: bool = True) -> list[DeleteItem]:
        """`docker rmi`."""
        items = await removal.remove(self.parts, reference, force=force, prune=prune)
        self.housekeeping.soon()
        return items

    async def remove_platforms(self, reference: str, platforms: Sequence[Platform]) -> list[DeleteItem]:
        """`docker rmi --force --platform`."""
        items = await removal.remove_platforms(self.parts, reference, platforms)
        self.housekeeping.soon()
        return items

    async def prune(self, filters: Filters) -> PruneReport:
        """`docker image prune`. Raises `Conflict` while another one runs."""
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        try:
            return await pruning.prune(self.parts, self._collection, filters)
        finally:
            self._pruning = False

    async def count(self) -> int:
        """How many images there are, by id."""
        return len({record.id for record in await self.parts.records.all()})

    async def disk_usage(self) -> ImagesDiskUsage:
        """The images' part of `docker system df`."""
        return await listing.disk_usage(self.parts)

    async def load(
        self,
        body: AsyncIterator[bytes],
        report: Report,
        platforms: list[Platform],
        *,
        admission: Admission | None = None,
        progress: bool = False,
    ) -> None:
        """`docker load`; with `progress`, messages about each layer go to `report` too. `admission` says whether the images
        may be loaded; without one they are asked about as an archive's.
        """
        asked = admission or self.trust.archived
        try:
            await loading.load(
                self.parts, self.unpacker, body, platforms, report, admission=asked, progress=progress
            )
        except BaseException:
            self.housekeeping.soon()
            raise

    async def plan_save(self, names: list[str], platforms: list[Platform]) -> SavePlan:
        """Find what `docker save` is to write; errors come from here."""
        return await saving.plan(self.parts, names, platforms)

    def save(self, plan: SavePlan) -> AsyncIterator[bytes]:
        """The archive's bytes."""
        return saving.stream(self.parts, plan)

    async def import_image(self, body: AsyncIterator[bytes], request: ImportRequest) -> str:
        """`docker import`."""
        try:
            return await importing.import_image(self.parts, self.unpacker, body, request)
        except BaseException:
            self.housekeeping.soon()
            raise

    async def pull(
        self, reference: Reference, platform: Platform | None, credentials: Credentials, report: Report
    ) -> None:
        """`docker pull`; every tag when the reference is only a name."""
        try:
            await self._puller.pull(reference, platform, credentials, report)
        except BaseException:
            self.housekeeping.soon()
            raise

    async def push(
        self, reference: Reference, platform: Platform | None, credentials: Credentials, report: Report
    ) -> None:
        """`docker push`; every tag when the reference is only a name."""
        await self._pusher.push(reference, platform, credentials, report)

    async def push_target(
        self, target: Descriptor, reference: Reference, credentials: Credentials, report: Report
    ) -> None:
        """Push what the content store has, whether it is an image or not. For the builder."""
        await self._pusher.push_target(target, reference, credentials, report)

    async def search(
        self, term: str, limit: int, filters: Filters, credentials: Credentials
    ) -> list[SearchResult]:
        """`docker search`."""
        return await searching.search(self.registry, term, limit, filters, credentials)

    async def inspect_distribution(
        self, reference: Reference, credentials: Credentials
    ) -> DistributionInspect:
        """What a name means at its registry."""
        return await searching.inspect_distribution(self.registry, reference, credentials)

    async def log_in(self, credentials: Credentials) -> str:
        """`docker login`: the refresh token that the registry gave, or ""."""
        return await self.registry.log_in(credentials)

    async def _uses(self) -> list[ContainerUse]:
        return await self._registered() if self._registered is not None else []
