"""`docker pull`: resolve, fetch, unpack, name.

Layers are fetched at the same time and unpacked in their order, each as soon as it and those below it are here. The name is written
when everything is durable and unpacked; until then a lease holds it, so a pull that fails or is killed leaves
garbage for collection, partial blobs for the next attempt, and no image.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from sampan.content.interface import Lease, snapshot_resource
from sampan.engineapi.image import StreamMessage
from sampan.errors import InvalidParameter, SampanError
from sampan.faults import point
from sampan.images.parts import Parts
from sampan.images.pullprogress import LayerProgress, Report
from sampan.images.references import refer_all
from sampan.images.remote import RemoteDocuments, RemoteImage, unresolved
from sampan.images.together import side_by_side
from sampan.images.transfers import BlobTransfers, note_source
from sampan.images.trusting import Trust
from sampan.images.unpacking import Unpacker
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.names.reference import Reference
from sampan.oci.image import Descriptor, chain_ids
from sampan.registry.client import RegistryClient
from sampan.registry.credentials import Credentials
from sampan.registry.repository import Repository


class Puller:
    """Pulls for one engine."""

    def __init__(
        self,
        parts: Parts,
        unpacker: Unpacker,
        client: RegistryClient,
        transfers: BlobTransfers,
        trust: Trust,
    ) -> None:
        self._parts = parts
        self._unpacker = unpacker
        self._client = client
        self._transfers = transfers
        self._trust = trust

    async def pull(
        self, reference: Reference, platform: Platform | None, credentials: Credentials, report: Report
    ) -> None:
        """Pull an image, or every tag of a repository when the reference has neither tag nor digest."""
        if not reference.is_name_only:
            await self._pull_one(reference, platform, credentials, report)
            return
        repository = self._client.repository(reference, credentials)
        try:
            tags = await repository.tags()
        except SampanError as error:
            raise unresolved(error, reference, repository.mirrors_report()) from error
        for tag in tags:
            try:
                one = reference.with_tag(tag)
            except InvalidParameter:
                continue  # no name that anything could have here
            try:
                await self._pull_one(one, platform, credentials, report)
            except SampanError as error:
                error.args = (f"error pulling {one}: {error}",)
                raise

    async def _pull_one(
        self, reference: Reference, platform: Platform | None, credentials: Credentials, report: Report
    ) -> None:
        repository = self._client.repository(reference, credentials)
        try:
            target = await repository.resolve(reference.digest or reference.tag)
        except SampanError as error:
            raise unresolved(error, reference, repository.mirrors_report()) from error
        await self._trust.pulled(repository, reference, target)
        report(StreamMessage(status=f"Pulling from {reference.path}", id=reference.digest or reference.tag))
        name = str(reference.without_tag() if reference.digest else reference)
        async with self._parts.content.leases.hold("pull") as lease:
            try:
                newer = await self._take(repository, target, name, platform, lease, report)
            except SampanError as error:
                error.args = (f"{error}{repository.mirrors_report()}",)
                raise
        familiar = reference.familiar()
        report(StreamMessage(status=f"Digest: {target.digest}"))
        state = "Downloaded newer image" if newer else "Image is up to date"
        report(StreamMessage(status=f"Status: {state} for {familiar}"))

    async def _take(
        self,
        repository: Repository,
        target: Descriptor,
        name: str,
        platform: Platform | None,
        lease: Lease,
        report: Report,
    ) -> bool:
        """Fetch, unpack, name. True when the name meant something else before."""
        parts = self._parts
        documents = RemoteDocuments(repository, parts.content, lease)
        image = await documents.image(target, name, platform)
        if platform is None and image.platform is not None:
            _warn_foreign(image.platform, report)
        await self._fetch(repository, image, lease, report)
        await refer_all(parts.content, parts.documents, target)
        parts.documents.forget()
        await self._note_sources(repository, image)
        point("pull.unpacked")
        before = await parts.records.get(name)
        if before is None or before.id != target.digest:
            plain = Descriptor(media_type=target.media_type, digest=target.digest, size=target.size)
            await parts.records.put(name, plain)
        point("pull.name-written")
        record = await parts.records.get(name)
        if record is not None:
            familiar = record.reference()
            labels = image.config.config.labels if image.config and image.config.config else None
            parts.publish("pull", familiar.familiar(), familiar.familiar_name(), labels)
        return before is None or before.id != target.digest

    async def _fetch(self, repository: Repository, image: RemoteImage, lease: Lease, report: Report) -> None:
        """Layers into the content store and, of an image that could run here, into snapshots."""
        layers = list(image.manifest.layers)
        if image.config is None:
            blobs = [image.manifest.config, *layers]
            await self._download(repository, _distinct(blobs), lease, report)
            return
        if image.platform is None or image.platform.os != "linux":
            await self._download(repository, _distinct(layers), lease, report)
            return
        if await self._is_here(image, lease):
            return
        diff_ids = image.config.rootfs.diff_ids
        if len(diff_ids) != len(layers):
            raise InvalidParameter(
                f"image has {len(layers)} layers in its manifest and {len(diff_ids)} in its config"
            )
        await self._download_and_unpack(repository, image, lease, report)
        await self._unpacker.ensure(image.manifest, image.config, lease)

    async def _is_here(self, image: RemoteImage, lease: Lease) -> bool:
        """Whether all of it is stored and unpacked, so that nothing need be told about layers."""
        content = self._parts.content
        for layer in image.manifest.layers:
            if not await content.exists(layer.checked_digest):
                return False
        assert image.config is not None  # the caller has looked
        chain = chain_ids(image.config.rootfs.diff_ids)
        if chain and not await self._unpacker.is_unpacked(chain[-1]):
            return False
        await self._unpacker.ensure(image.manifest, image.config, lease)
        return True

    async def _download(
        self, repository: Repository, blobs: list[Descriptor], lease: Lease, report: Report
    ) -> None:
        async with side_by_side() as group:
            for blob in blobs:
                progress = LayerProgress(blob, report)
                progress.pulling()
                group.create_task(self._one(repository, blob, lease, progress))

    async def _download_and_unpack(
        self, repository: Repository, image: RemoteImage, lease: Lease, report: Report
    ) -> None:
        assert image.config is not None  # the caller has looked
        chain = chain_ids(image.config.rootfs.diff_ids)
        await self._parts.content.leases.add(lease, *(snapshot_resource(each) for each in chain))
        lines = {layer.digest: LayerProgress(layer, report) for layer in image.manifest.layers}
        for line in lines.values():
            line.pulling()
        async with side_by_side() as group:
            arriving = {
                layer.digest: group.create_task(self._one(repository, layer, lease, lines[layer.digest]))
                for layer in _distinct(image.manifest.layers)
            }
            for number, (layer, diff_id) in enumerate(
                zip(image.manifest.layers, image.config.rootfs.diff_ids, strict=True), start=1
            ):
                await arriving[layer.digest]
                line = lines[layer.digest]
                await self._unpacker.layer(
                    layer,
                    diff_id,
                    chain[:number],
                    lease,
                    lambda _, done, line=line: line.extracting(done),  # type: ignore[misc]
                )
                line.complete()

    async def _one(self, repository: Repository, blob: Descriptor, lease: Lease, line: LayerProgress) -> None:
        if await self._transfers.fetch(repository, blob, lease, line):
            line.downloaded()
        else:
            line.exists()

    async def _note_sources(self, repository: Repository, image: RemoteImage) -> None:
        blobs = {each.checked_digest for each in (image.manifest.config, *image.manifest.layers)}
        await asyncio.gather(
            *(note_source(self._parts.content, each, repository.domain, repository.path) for each in blobs)
        )


def _distinct(blobs: Iterable[Descriptor]) -> list[Descriptor]:
    """Each blob once: an empty layer often comes several times."""
    return list({blob.digest: blob for blob in blobs}.values())


def _warn_foreign(platform: Platform, report: Report) -> None:
    local = platforms.local()
    if not platforms.choose([platform], lambda each: each, local):
        report(
            StreamMessage(
                status=f"WARNING: the image's platform ({platform}) does not match this machine's ({local}) and no specific"
                " platform was requested"
            )
        )
