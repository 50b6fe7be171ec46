"""From what a user typed to an image: names, digests, ids and their prefixes, as dockerd with the containerd store finds them."""

from __future__ import annotations

import re

from sampan.errors import InvalidParameter, NotFound
from sampan.images.documents import Documents, ImageManifest, choose_manifest
from sampan.images.interface import ResolvedImage
from sampan.images.records import ImageRecord, ImageRecords
from sampan.names.digest import is_digest
from sampan.names.platform import Platform
from sampan.names.reference import Reference, is_identifier, parse_normalized
from sampan.oci.image import chain_ids

_SHORT_ID = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")


def parse_any(text: str) -> Reference | str:
    """A full id as its digest (`sha256:…`), anything else as a canonical reference without default tag.

    Raises `InvalidParameter` ("invalid reference format") for neither.
    """
    if is_identifier(text):
        return f"sha256:{text}"
    if is_digest(text):
        return text
    return parse_normalized(text)


def no_such_image(text: str) -> NotFound:
    """Docker's error for a name or id that nothing has."""
    try:
        parsed = parse_any(text)
    except InvalidParameter:
        return NotFound(f"No such image: {text}")
    return NotFound(
        f"No such image: {parsed if isinstance(parsed, str) else parsed.with_default_tag().familiar()}"
    )


class Resolver:
    """Finds records, and the manifest of a platform in an image."""

    def __init__(self, records: ImageRecords, documents: Documents) -> None:
        self._records = records
        self._documents = documents

    async def record(self, text: str) -> ImageRecord:
        """The record that a reference or id means.

        A name wins over an id prefix that looks the same. Raises `NotFound` ("No such image: …", "ambiguous reference"),
        `InvalidParameter`.
        """
        if _SHORT_ID.fullmatch(text):
            return await self._by_short_id(text)
        parsed = parse_any(text)
        if isinstance(parsed, str):
            found = await self._records.of(parsed)
        elif parsed.digest:
            # The repository must be the one that was typed, even when the digest alone would do.
            found = [each for each in await self._records.of(parsed.digest) if _same_repository(each, parsed)]
        else:
            named = await self._records.get(str(parsed.with_default_tag()))
            found = [named] if named else []
        if not found:
            raise no_such_image(text)
        return found[0]

    async def image(self, text: str, platform: Platform | None) -> ResolvedImage:
        """The complete image of a platform. Raises as `record`, and `NotFound` when it lacks the platform or parts of it."""
        record = await self.record(text)
        return await self.of_record(record, text, platform)

    async def of_record(self, record: ImageRecord, text: str, platform: Platform | None) -> ResolvedImage:
        """Like `image`, from a record; `text` is for the error."""
        name = text if _SHORT_ID.fullmatch(text) else record.familiar()
        manifest = await self.manifest(record, name, platform)
        names = [each.familiar() for each in await self._records.of(record.id) if not each.is_dangling]
        return resolved(record, manifest, tuple(sorted(names)))

    async def manifest(self, record: ImageRecord, text: str, platform: Platform | None) -> ImageManifest:
        """The manifest that serves a platform. Raises `NotFound`, which calls the image `text`."""
        manifests = await self._documents.manifests(record.target)
        chosen = choose_manifest(manifests, platform)
        if chosen is None and platform is None:
            raise NotFound(f"image {text} has no complete content for any platform on this engine")
        if chosen is None:
            raise NotFound(
                f"image with reference {text} was found but does not provide the specified platform ({platform})"
            )
        return chosen

    async def _by_short_id(self, text: str) -> ImageRecord:
        if ":" not in text and not is_identifier(text):
            named = await self._records.get(str(parse_normalized(text).with_default_tag()))
            if named is not None:
                return named
        found = await self._records.with_prefix(text if ":" in text else f"sha256:{text}")
        if not found:
            raise no_such_image(text)
        if len({each.id for each in found}) > 1:
            raise NotFound("ambiguous reference")
        return found[0]


def is_id_prefix(image_id: str, text: str) -> bool:
    """Whether the text is the image's id or the beginning of it, with or without `sha256:`."""
    return bool(text) and (image_id.startswith(text) or image_id.partition(":")[2].startswith(text))


def resolved(record: ImageRecord, chosen: ImageManifest, names: tuple[str, ...]) -> ResolvedImage:
    """The parts of one platform of an image, put together."""
    assert (
        chosen.manifest is not None and chosen.config is not None and chosen.platform is not None
    )  # it is complete
    chain = chain_ids(chosen.config.rootfs.diff_ids)
    return ResolvedImage(
        id=record.id,
        target=record.target,
        descriptor=chosen.descriptor,
        manifest=chosen.manifest,
        config=chosen.config,
        chain_id=chain[-1] if chain else "",
        platform=chosen.platform,
        names=names,
    )


def _same_repository(record: ImageRecord, wanted: Reference) -> bool:
    return not record.is_dangling and record.reference().name == wanted.name
