"""`docker push`: blobs first, each once and only where they are missing, then manifests, the tag last.

A registry therefore never shows a tag whose parts are not all there. The manifest is sent as the bytes that it was received or made
in, so what was pulled is pushed with the same digest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from sampan.engineapi.image import ProgressDetail, StreamMessage
from sampan.errors import Conflict, NotFound, SystemFailure, Unauthorized
from sampan.images.documents import ImageManifest
from sampan.images.parts import Parts
from sampan.images.pullprogress import Report
from sampan.images.records import ImageRecord
from sampan.images.remote import access_denied
from sampan.images.slots import Slots
from sampan.images.together import side_by_side
from sampan.images.transfers import note_source, source_label
from sampan.names import platform as platforms
from sampan.names.digest import short
from sampan.names.platform import Platform
from sampan.names.reference import Reference
from sampan.oci.image import CONFIG_TYPES, INDEX_TYPES, Descriptor
from sampan.registry.authorization import NO_CREDENTIALS
from sampan.registry.client import RegistryClient
from sampan.registry.credentials import Credentials
from sampan.registry.pushing import Pusher

_INTERVAL = 0.1


class PushPlan(NamedTuple):
    """What is to be sent: blobs in any order, then manifests in this order, the target last."""

    target: Descriptor
    blobs: list[Descriptor]
    manifests: list[Descriptor]
    absent: list[Descriptor]
    """Manifests of the index that are not here; the registry must have them already."""


class PushImages:
    """Pushes for one engine."""

    def __init__(self, parts: Parts, client: RegistryClient) -> None:
        self._parts = parts
        self._client = client
        self._slots = Slots(lambda: client.settings.uploads)

    async def push(
        self, reference: Reference, platform: Platform | None, credentials: Credentials, report: Report
    ) -> None:
        """Push an image, or every tag of a repository when the reference has neither tag nor digest."""
        report(StreamMessage(status=f"The push refers to repository [{reference.name}]"))
        for record in await self._records(reference):
            await self._push_one(record, platform, credentials, report)

    async def push_target(
        self, target: Descriptor, reference: Reference, credentials: Credentials, report: Report
    ) -> None:
        """Push what is in the content store; under no tag when the reference has none. The caller holds it."""
        await self._push_one(ImageRecord(str(reference), target, 0, 0, {}), None, credentials, report)

    async def _records(self, reference: Reference) -> list[ImageRecord]:
        if reference.is_name_only:
            prefix = reference.name + ":"
            found = [each for each in await self._parts.records.all() if each.name.startswith(prefix)]
            if not found:
                raise SystemFailure(
                    f"An image does not exist locally with the tag: {reference.familiar_name()}"
                )
            return found
        named = await self._parts.records.get(str(reference))
        if named is None:
            raise NotFound(f"tag does not exist: {reference.familiar()}")
        return [named]

    async def _push_one(
        self, record: ImageRecord, platform: Platform | None, credentials: Credentials, report: Report
    ) -> None:
        try:
            await self._send(record, platform, credentials, report)
        except Unauthorized as error:
            if str(error) != NO_CREDENTIALS:
                raise
            raise Unauthorized(access_denied("push", error)) from error

    async def _send(
        self, record: ImageRecord, platform: Platform | None, credentials: Credentials, report: Report
    ) -> None:
        reference = record.reference()
        async with self._parts.content.leases.hold("push"):
            plan = await self._plan(record, platform)
            sources = await self._sources(plan, reference)
            mountable = frozenset(path for paths in sources.values() for path in paths)
            repository = self._client.repository(reference, credentials)
            pusher = Pusher(repository, mountable)
            plan = await self._settle_absent(record, plan, pusher, report)
            await self._send_blobs(plan, pusher, sources, report)
            for each in plan.manifests:
                data = await self._parts.content.read(each.checked_digest)
                tag = reference.tag if each is plan.target else ""
                await pusher.manifest(data, each.media_type, tag)
            await asyncio.gather(
                *(
                    note_source(self._parts.content, blob.checked_digest, reference.domain, reference.path)
                    for blob in plan.blobs
                )
            )
        if reference.tag:
            report(
                StreamMessage(
                    status=f"{reference.tag}: digest: {plan.target.digest} size: {plan.target.size}"
                )
            )
        await self._parts.publish_for("push", record, reference.familiar())

    # -- what to send

    async def _plan(self, record: ImageRecord, platform: Platform | None) -> PushPlan:
        target = record.target
        if platform is not None:
            target = (await self._for_platform(record, platform)).descriptor
        if target.media_type not in INDEX_TYPES:
            return await self._plan_manifest(target)
        blobs: list[Descriptor] = []
        manifests: list[Descriptor] = []
        absent: list[Descriptor] = []
        await self._plan_index(target, blobs, manifests, absent, 0)
        return PushPlan(target, _distinct(blobs), [*manifests, target], absent)

    async def _plan_index(
        self,
        target: Descriptor,
        blobs: list[Descriptor],
        manifests: list[Descriptor],
        absent: list[Descriptor],
        depth: int,
    ) -> None:
        for child in (await self._parts.documents.index(target.digest)).manifests:
            if child.media_type in INDEX_TYPES and depth < 4 and await self._here(child):
                await self._plan_index(child, blobs, manifests, absent, depth + 1)
                manifests.append(child)
            elif await self._is_complete(child):
                plan = await self._plan_manifest(child)
                blobs += plan.blobs
                manifests.append(child)
            else:
                absent.append(child)

    async def _plan_manifest(self, descriptor: Descriptor) -> PushPlan:
        manifest = await self._parts.documents.manifest(descriptor.digest)
        blobs = _distinct([*manifest.layers, manifest.config])
        for blob in blobs:
            if not await self._here(blob) and not _is_foreign(blob):
                raise NotFound(f"content digest {blob.digest}: not found")
        return PushPlan(descriptor, blobs, [descriptor], [])

    async def _is_complete(self, descriptor: Descriptor) -> bool:
        try:
            await self._plan_manifest(descriptor)
        except NotFound:
            return False
        return True

    async def _here(self, descriptor: Descriptor) -> bool:
        return await self._parts.content.exists(descriptor.checked_digest)

    async def _for_platform(self, record: ImageRecord, platform: Platform) -> ImageManifest:
        found = [
            each
            for each in await self._parts.documents.manifests(record.target)
            if each.available
            and each.kind == "image"
            and each.platform
            and platforms.matches(each.platform, platform)
        ]
        if not found:
            raise NotFound(
                f"image with reference {record.familiar()} was found but does not provide the specified platform ({platform})"
            )
        if len(found) > 1:
            raise Conflict(f"multiple manifests found for platform {platform}")
        return found[0]

    async def _settle_absent(
        self, record: ImageRecord, plan: PushPlan, pusher: Pusher, report: Report
    ) -> PushPlan:
        """An index whose parts are not all here goes as it is when the registry has the others; else this machine's part alone."""
        for each in plan.absent:
            if not await pusher.has_manifest(each.digest):
                return await self._instead(record, report)
        return plan

    async def _instead(self, record: ImageRecord, report: Report) -> PushPlan:
        manifests = await self._parts.documents.manifests(record.target)
        present = [each for each in manifests if each.kind == "image" and each.available and each.platform]
        best = platforms.choose(present, lambda each: each.platform or platforms.local(), platforms.local())
        if not best and len(present) != 1:
            raise Conflict("multiple matching manifests found but no specific platform requested")
        chosen = (best or present)[0].descriptor
        report(
            StreamMessage(
                aux={
                    "manifestPushedInsteadOfIndex": True,
                    "originalIndex": msgspec.to_builtins(record.target),
                    "selectedManifest": msgspec.to_builtins(chosen),
                }
            )
        )
        return await self._plan_manifest(chosen)

    async def _sources(self, plan: PushPlan, reference: Reference) -> dict[str, list[str]]:
        """For each blob, repositories of the same registry that had it, by what was pulled and pushed before."""
        label = source_label(reference.domain)
        found: dict[str, list[str]] = {}
        for blob in plan.blobs:
            try:
                known = (await self._parts.content.info(blob.checked_digest)).labels.get(label, "")
            except NotFound:
                continue
            found[blob.digest] = [path for path in known.split(",") if path and path != reference.path][-2:]
        return found

    # -- sending

    async def _send_blobs(
        self, plan: PushPlan, pusher: Pusher, sources: dict[str, list[str]], report: Report
    ) -> None:
        async with side_by_side() as group:
            for blob in plan.blobs:
                group.create_task(self._send_blob(blob, pusher, sources.get(blob.digest, []), report))

    async def _send_blob(
        self, blob: Descriptor, pusher: Pusher, mountable: list[str], report: Report
    ) -> None:
        # Configs are small and dockerd does not show them either.
        say = _line(blob, report) if blob.media_type not in CONFIG_TYPES else _silent
        if _is_foreign(blob):
            say("Skipped foreign layer", None)
            return
        say("Waiting", None)
        async with self._slots:
            content = self._parts.content
            pushed = await pusher.blob(
                blob,
                lambda offset, length: content.stream(blob.checked_digest, offset=offset, length=length),
                mountable,
                lambda position: say("Pushing", position),
            )
        outcomes = {
            "exists": "Layer already exists",
            "mounted": f"Mounted from {pushed.mounted_from}",
            "pushed": "Pushed",
        }
        say(outcomes[pushed.outcome], None)


def _line(blob: Descriptor, report: Report) -> Callable[[str, int | None], None]:
    """The progress line of a blob: text, or text with a bar at most ten times a second."""
    following = 0.0

    def say(status: str, position: int | None) -> None:
        nonlocal following
        detail = ProgressDetail()
        if position is not None:
            now = time.monotonic()
            if now < following and position < blob.size:
                return
            following = now + _INTERVAL
            detail = ProgressDetail(position, blob.size)
        report(StreamMessage(status=status, progress_detail=detail, id=short(blob.digest)))

    return say


def _silent(status: str, position: int | None) -> None:
    return None


def _is_foreign(blob: Descriptor) -> bool:
    """A layer that may not be distributed, and is fetched from the addresses that its descriptor names."""
    return bool(blob.urls) and ("foreign" in blob.media_type or "nondistributable" in blob.media_type)


def _distinct(blobs: list[Descriptor]) -> list[Descriptor]:
    return list({blob.digest: blob for blob in blobs}.values())
