"""Blobs on their way in from registries, each once however many pulls want it, resumed where they broke off.

A transfer writes an ingest whose key is the blob's digest. When it breaks, it goes on at the same byte; when the engine is
killed or the pull is given up, the bytes stay for a day under a lease of their own, and the next pull goes on from there.
What is complete is verified before anybody can see it; what turns out wrong is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sampan.content.interface import ContentStore, Ingest, Lease, content_resource
from sampan.errors import Conflict, InvalidParameter, SampanError
from sampan.faults import point
from sampan.images.slots import Slots
from sampan.names.digest import Digest
from sampan.oci.image import Descriptor
from sampan.registry.failures import RETRIED, ConnectionFailed, WrongContent
from sampan.registry.repository import Repository
from sampan.registry.retrying import Patience
from sampan.registry.settings import RegistrySettings

KEPT_SECONDS = 24 * 3600.0
"""For how long the bytes of a broken transfer are kept."""

_KEY = "download-"


class Watcher:
    """Who is told how a blob comes along. Override what is of interest."""

    def received(self, position: int) -> None:
        """So many bytes of the blob are here."""

    def waiting(self, delay: float, error: SampanError) -> None:
        """It broke, and is tried again after so many seconds."""


class _Transfer:
    """One blob under way, and who wants it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.watchers: list[Watcher] = []

    def received(self, position: int) -> None:
        for watcher in self.watchers:
            watcher.received(position)

    def waiting(self, delay: float, error: SampanError) -> None:
        for watcher in self.watchers:
            watcher.waiting(delay, error)


class BlobTransfers:
    """One per engine."""

    def __init__(self, content: ContentStore, settings: Callable[[], RegistrySettings]) -> None:
        self._content = content
        self._settings = settings
        self._slots = Slots(lambda: settings().downloads)
        self._running: dict[str, _Transfer] = {}

    async def fetch(
        self, repository: Repository, descriptor: Descriptor, lease: Lease, watcher: Watcher
    ) -> bool:
        """Have a blob in the content store, protected by `lease`. False: it was there already.

        Raises `WrongContent` when what the registry sends is not the blob, else as `Repository.blob`.
        """
        digest = descriptor.checked_digest
        await self._content.leases.add(lease, content_resource(digest))
        fetched = False
        while not await self._content.exists(digest):
            fetched = True
            transfer = self._running.get(digest)
            started = transfer is None
            if transfer is None:
                transfer = self._start(repository, descriptor)
            try:
                await self._join(transfer, watcher)
            except SampanError:
                if started:  # another pull's failure may be its own: it may lack the rights that we have
                    raise
        return fetched

    def _start(self, repository: Repository, descriptor: Descriptor) -> _Transfer:
        transfer = _Transfer()
        work = self._transfer(repository, descriptor, transfer)
        transfer.task = asyncio.get_running_loop().create_task(work, name=f"download {descriptor.digest}")
        self._running[descriptor.digest] = transfer

        def ended(task: asyncio.Task[None]) -> None:
            self._running.pop(descriptor.digest, None)
            if not task.cancelled():
                task.exception()  # told to those who wait; nobody may be left

        transfer.task.add_done_callback(ended)
        return transfer

    async def _join(self, transfer: _Transfer, watcher: Watcher) -> None:
        """Wait for a transfer. When the last one that waits is cancelled, so is the transfer."""
        assert transfer.task is not None  # set when it was started
        transfer.watchers.append(watcher)
        try:
            await asyncio.shield(transfer.task)
        except asyncio.CancelledError:
            if transfer.task.cancelled() and not _is_cancelled():
                return  # the others gave up just as we joined: ask again
            raise
        finally:
            transfer.watchers.remove(watcher)
            if not transfer.watchers and not transfer.task.done():
                transfer.task.cancel()
                await asyncio.wait([transfer.task])

    async def _transfer(self, repository: Repository, descriptor: Descriptor, transfer: _Transfer) -> None:
        async with self._slots:
            lease = await self._lease(descriptor.digest)
            skipped = 0
            while True:
                ingest = await self._content.ingest(
                    _KEY + descriptor.digest,
                    lease=lease,
                    expected=descriptor.checked_digest,
                    size=descriptor.size,
                )
                if ingest is None:
                    break
                resumed = ingest.offset > 0
                try:
                    async with ingest:
                        await self._receive(repository, descriptor, ingest, transfer, skipped)
                    break
                except WrongContent:
                    # The wrong bytes may be of an earlier attempt or of a mirror: once more without them.
                    if not resumed:
                        skipped += 1
                    if skipped >= repository.endpoints:
                        await self._content.leases.delete(lease)
                        raise
                except SampanError as error:
                    if not isinstance(error, RETRIED):
                        await self._content.leases.delete(lease)
                    raise
            await self._content.leases.delete(lease)

    async def _lease(self, digest: str) -> Lease:
        """The lease that keeps the bytes of a blob between attempts, its day begun anew."""
        leases, id = self._content.leases, _KEY + digest
        labels = {"download": digest}
        try:
            return await leases.create(id=id, labels=labels, expires_in=KEPT_SECONDS)
        except Conflict:
            return Lease(id, 0, None, labels)

    async def _receive(
        self,
        repository: Repository,
        descriptor: Descriptor,
        ingest: Ingest,
        transfer: _Transfer,
        skipped: int,
    ) -> None:
        """Fill the ingest and commit it. Gone afterwards, unless it can be resumed."""
        patience = Patience(self._settings(), transfer.waiting)
        while ingest.offset < descriptor.size:
            before = ingest.offset
            try:
                await _copy(repository, descriptor, ingest, transfer, skipped)
                if ingest.offset < descriptor.size:
                    raise ConnectionFailed(
                        f"{descriptor.digest}: unexpected EOF: {ingest.offset} of {descriptor.size} bytes"
                    )
            except SampanError as error:
                if not isinstance(error, RETRIED):
                    await ingest.abort()
                    raise
                if ingest.offset > before:
                    patience.progressed()
                await patience.after(error)
        point("pull.blob-received")
        try:
            await ingest.commit()
        except InvalidParameter as error:
            raise WrongContent(
                f"filesystem layer verification failed for digest {descriptor.digest}: {error}"
            ) from error


async def _copy(
    repository: Repository, descriptor: Descriptor, ingest: Ingest, transfer: _Transfer, skipped: int
) -> None:
    async with repository.blob(descriptor, ingest.offset, skipped) as blob:
        async for chunk in blob.after(ingest.offset):
            await ingest.write(chunk)
            transfer.received(ingest.offset)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def source_label(domain: str) -> str:
    """The label that names the repositories of a registry which have a blob (containerd's; here with the port)."""
    return f"containerd.io/distribution.source.{domain}"


async def note_source(content: ContentStore, digest: Digest, domain: str, path: str) -> None:
    """Remember that a repository has a blob, so that a push to a neighbour can mount it from there."""
    label = source_label(domain)
    known = (await content.info(digest)).labels.get(label, "")
    paths = [each for each in known.split(",") if each]
    if path not in paths:
        await content.set_labels(digest, {label: ",".join([*paths[-9:], path])})
