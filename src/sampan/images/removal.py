"""`docker rmi`: taking names away, and with the last one the image.

dockerd's rules, for its containerd store:

- A name that is not the image's last one is *untagged*; nothing else happens.
- The last name goes with the image, unless a container uses it. Then it is a conflict, or with `force` the
name goes and the image
  stays as a dangling one.
- An id deletes the image with its name. Several names, or a stopped container, are a conflict that `force` overrides; a running
  container is one that it does not.
- A platform of an index is removed with `force` only, and leaves the names.
- With pruning, dangling ancestors that nothing uses go too.

Content and snapshots are freed by collection afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sampan.engineapi.image import DeleteItem
from sampan.errors import Conflict
from sampan.images.interface import ContainerUse
from sampan.images.lineage import Lineage
from sampan.images.parts import Parts
from sampan.images.records import ImageRecord
from sampan.images.resolution import is_id_prefix
from sampan.names.digest import short
from sampan.names.platform import Platform


class _Removal:
    """One call of `rmi`."""

    def __init__(self, parts: Parts, lineage: Lineage, uses: list[ContainerUse]) -> None:
        self.parts = parts
        self.lineage = lineage
        self.uses = uses
        self.items: list[DeleteItem] = []

    def user(self, image_id: str, running: bool | None = None) -> ContainerUse | None:
        """A container of the image: any, a running or a stopped one."""
        for use in self.uses:
            if use.image_id == image_id and (running is None or use.running is running):
                return use
        return None

    def check_running(self, image_id: str) -> None:
        """Raise `Conflict` when a running container uses the image: nothing overrides that."""
        if use := self.user(image_id, running=True):
            reason = f"image is being used by running container {short(use.container_id)}"
            raise _conflict(short(image_id), reason, forcible=False)

    def check_stopped(self, image_id: str, force: bool) -> None:
        """Raise `Conflict` when a stopped container uses the image, unless forced."""
        if not force and (use := self.user(image_id, running=False)):
            reason = f"image is being used by stopped container {short(use.container_id)}"
            raise _conflict(short(image_id), reason)

    async def untag(self, records: list[ImageRecord]) -> None:
        """Take these names away; the image keeps others."""
        await self.parts.records.delete(record.name for record in records)
        await self._tell_untagged(records)

    async def keep_dangling(self, record: ImageRecord) -> None:
        """Take the last name away and keep the image for its containers."""
        await self.parts.records.replace_by_dangling(record)
        await self._tell_untagged([record])

    async def delete(self, image_id: str) -> None:
        """Remove every record of the image. One that others were committed from stays as a dangling image beneath them."""
        records = self.lineage.records(image_id)
        if self.lineage.has_children(image_id) and len(records) == 1 and not records[0].is_dangling:
            await self.parts.records.replace_by_dangling(records[0])
        else:
            await self.parts.records.delete(record.name for record in records)
        await self._tell_untagged(record for record in records if not record.is_dangling)
        self.parts.publish("delete", image_id, image_id)
        self.items.append(DeleteItem(deleted=image_id))

    async def prune_ancestors(self, ancestors: list[str]) -> None:
        """Delete dangling ancestors from the nearest up to the first that has a name, a user or another child."""
        for image_id in ancestors:
            self.lineage = await Lineage.read(self.parts.records)
            records = self.lineage.records(image_id)
            named = any(not record.is_dangling for record in records)
            if not records or named or self.user(image_id) or self.lineage.has_children(image_id):
                return
            await self.delete(image_id)

    async def _tell_untagged(self, records: Iterable[ImageRecord]) -> None:
        for record in records:
            self.parts.publish("untag", record.id, record.familiar())
            self.items.append(DeleteItem(untagged=record.familiar()))


async def remove(parts: Parts, text: str, *, force: bool = False, prune: bool = True) -> list[DeleteItem]:
    """Remove what a name or id means. Raises `NotFound`, `Conflict` in Docker's words; then nothing was changed."""
    record = await parts.resolver.record(text)
    lineage = await Lineage.read(parts.records)
    removal = _Removal(parts, lineage, await parts.uses())
    records = lineage.records(record.id)
    ancestors = lineage.ancestors(record.id) if prune else []
    if record.is_dangling or is_id_prefix(record.id, text):
        removal.check_running(record.id)
        if not force and len(_same_name(records, records[0])) != len(records):
            raise _conflict(short(record.id), "image is referenced in multiple repositories")
        removal.check_stopped(record.id, force)
        await removal.delete(record.id)
        await removal.prune_ancestors(ancestors)
        return removal.items
    same = _same_name(records, record)
    if len(same) != len(records):
        await removal.untag(same)
        return removal.items
    if use := removal.user(record.id):
        if not force:
            reason = f"container {short(use.container_id)} is using its referenced image {short(record.id)}"
            raise _conflict(record.familiar(), reason)
        await removal.keep_dangling(record)
        return removal.items
    await removal.delete(record.id)
    await removal.prune_ancestors(ancestors)
    return removal.items


async def remove_platforms(parts: Parts, text: str, wanted: Sequence[Platform]) -> list[DeleteItem]:
    """Remove what an image has for these platforms; its names and the others stay. An image that has nothing else goes wholly.

    Raises `NotFound` for one that it does not have here, `Conflict` while a container of it runs; then nothing was changed.
    """
    record = await parts.resolver.record(text)
    uses = await parts.uses()
    chosen = [await parts.resolver.manifest(record, record.familiar(), platform) for platform in wanted]
    digests = list(dict.fromkeys(each.descriptor.checked_digest for each in chosen))
    for use in uses:
        if use.running and use.manifest_digest in digests:
            reason = f"image is being used by running container {short(use.container_id)}"
            raise _conflict(record.familiar(), reason, forcible=False)
    if record.id in digests:
        return await remove(parts, text, force=True)
    for digest in digests:
        # What else it alone refers to is collected; the index still names it, as one that was never pulled.
        await parts.content.delete(digest)
        parts.documents.drop(digest)
    return [DeleteItem(deleted=digest) for digest in digests]


def _same_name(records: list[ImageRecord], chosen: ImageRecord) -> list[ImageRecord]:
    """The records that go together with one: itself, and digests of its repository if that has no other tag."""
    if chosen.is_dangling:
        return records
    repository = chosen.reference().name
    siblings = [each for each in records if not each.is_dangling and each.reference().name == repository]
    tagged = [each for each in siblings if each.reference().tag and each.name != chosen.name]
    return [chosen] if tagged else [chosen, *(each for each in siblings if each.name != chosen.name)]


def _conflict(what: str, reason: str, *, forcible: bool = True) -> Conflict:
    return Conflict(
        f"conflict: unable to delete {what} ({'must' if forcible else 'cannot'} be forced) - {reason}"
    )
