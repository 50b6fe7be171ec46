"""The registry's content: blobs, manifests, tags, referrers of repositories. The storage is the truth.

A link is written after what it names is durable, and a tag after the manifest, so a reader finds everything that he is told of.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from sampan.errors import InvalidParameter
from sampan.names.digest import Digest, algorithm_of, digest_of, encoded_of
from sampan.oci.image import (
    INDEX_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    parse_index,
    parse_manifest,
)
from sampan.registryserver.catalogue import Catalogue
from sampan.registryserver.configuration import Urls
from sampan.registryserver.failures import Refused
from sampan.registryserver.index import ListIndex
from sampan.registryserver.localstorage import LocalStorage
from sampan.registryserver.paths import Paths, checked_digest
from sampan.registryserver.storage import Storage
from sampan.registryserver.uploads import Uploads

MANIFEST_MAX = 4 << 20
_READERS = 16
"""Manifests that are read at a time, where storage answers slowly."""


class StoredManifest(NamedTuple):
    """A manifest as it is served."""

    digest: Digest
    media_type: str
    data: bytes


class Parsed(NamedTuple):
    """What a manifest says, as far as a registry cares."""

    media_type: str
    parts: list[Descriptor]
    is_index: bool
    subject: Descriptor | None
    artifact_type: str
    annotations: dict[str, str]


class Repositories:
    """See the module."""

    def __init__(
        self,
        root: Path,
        grace: float = 3600,
        storage: Storage | None = None,
        index: ListIndex | None = None,
        urls: Urls | None = None,
    ) -> None:
        """`grace` is the collector's: what is asked for is made fresh well before it ends. Without a `storage` it is local.
        `urls` says which addresses manifests may name for their layers.
        """
        self._fresh_for = min(600.0, grace / 4)
        self.paths = Paths(root)
        self.storage = storage or LocalStorage()
        self.index = index or ListIndex()
        self.uploads = Uploads(self.paths, self.storage)
        self._catalogue = Catalogue(self.paths, self.storage, self.index)
        self._tag_lock = asyncio.Lock()
        self._urls = urls

    # -- blobs

    async def blob(self, name: str, digest: Digest) -> tuple[Path, int]:
        """The file of a blob that a repository has, and its size. Raises `Refused` BLOB_UNKNOWN."""
        return await asyncio.to_thread(self._blob, name, digest)

    def _blob(self, name: str, digest: Digest) -> tuple[Path, int]:
        path = self.paths.blob(digest)
        links = (self.paths.layer_link(name, digest), self.paths.revision_link(name, digest))
        if not any(self.link(link) == digest for link in links):
            raise Refused("BLOB_UNKNOWN", {"digest": digest})
        found = self.storage.fresh(path, self._fresh_for)
        if found is None:
            raise Refused("BLOB_UNKNOWN", {"digest": digest})
        return path, found.size

    def link(self, path: Path) -> str | None:
        """The digest in a link, which is a file that holds one; None when there is none. Blocks."""
        data = self.storage.read(path)
        return data[:256].decode(errors="replace").strip() if data is not None else None

    def write_link(self, path: Path, digest: Digest) -> None:
        """Make or replace a link. Blocks."""
        self.storage.write(path, digest.encode())

    async def mount(self, name: str, source: str, digest: Digest) -> bool:
        """Give a repository a blob that another one has; False when that has not."""

        def link() -> bool:
            try:
                self._blob(source, digest)
            except Refused:
                return False
            self.write_link(self.paths.layer_link(name, digest), digest)
            return True

        return await asyncio.to_thread(link)

    async def delete_blob(self, name: str, digest: Digest) -> None:
        """Take a blob from a repository; its bytes are left to the collector."""
        link = self.paths.layer_link(name, digest)
        if not await asyncio.to_thread(self.storage.remove, link, self.paths.repository(name)):
            raise Refused("BLOB_UNKNOWN", {"digest": digest})

    # -- manifests

    async def manifest(self, name: str, reference: str) -> StoredManifest:
        """By tag or digest. Raises `Refused` MANIFEST_UNKNOWN, NAME_UNKNOWN."""
        return await asyncio.to_thread(self._manifest, name, reference)

    def _manifest(self, name: str, reference: str) -> StoredManifest:
        digest = self.resolve(name, reference)
        if digest is None or self.link(self.paths.revision_link(name, digest)) != digest:
            self._check_exists(name)
            raise Refused("MANIFEST_UNKNOWN", {"Tag" if ":" not in reference else "Digest": reference})
        data = self.storage.read(self.paths.blob(digest))
        if data is None:
            raise Refused("MANIFEST_UNKNOWN", {"Digest": digest})
        return StoredManifest(digest, media_type_of(data), data)

    def resolve(self, name: str, reference: str) -> Digest | None:
        """The digest that a tag or digest means; None when the tag is not there. Blocks."""
        if ":" in reference:
            return checked_digest(reference)
        found = self.link(self.paths.tag_link(name, reference))
        return checked_digest(found) if found else None

    async def put_manifest(
        self, name: str, reference: str, media_type: str, data: bytes
    ) -> tuple[Digest, Parsed]:
        """Store a manifest under a tag or its digest. Raises `Refused` when it is malformed or names what is not there."""
        parsed = parse(data, media_type)
        digest = digest_of(data)
        if ":" in reference:
            wanted = checked_digest(reference)
            digest = digest_of(data, algorithm_of(wanted))
            if digest != wanted:
                raise Refused("DIGEST_INVALID", f"the manifest is {digest}, not {wanted}")
        await asyncio.to_thread(self._check_parts, name, parsed)
        await asyncio.to_thread(self._store_manifest, name, digest, data, parsed)
        if ":" not in reference:
            async with self._tag_lock:
                await asyncio.to_thread(self._tag, name, reference, digest)
        return digest, parsed

    def _check_parts(self, name: str, parsed: Parsed) -> None:
        for part in parsed.parts:
            digest = checked_digest(part.digest)
            if parsed.is_index:
                if self.link(self.paths.revision_link(name, digest)) != digest:
                    raise Refused("MANIFEST_BLOB_UNKNOWN", {"digest": digest})
                continue
            if part.urls:
                self._check_urls(part.urls)
                continue  # it lies elsewhere, on purpose
            try:
                _, size = self._blob(name, digest)
            except Refused:
                raise Refused("MANIFEST_BLOB_UNKNOWN", {"digest": digest}) from None
            if size != part.size:
                raise Refused("SIZE_INVALID", {"digest": digest, "size": part.size, "stored": size})

    def _check_urls(self, urls: Iterable[str]) -> None:
        if self._urls is None:
            return
        for url in urls:
            allowed = any(re.search(pattern, url) for pattern in self._urls.allow)
            if not allowed or any(re.search(pattern, url) for pattern in self._urls.deny):
                raise Refused("MANIFEST_INVALID", f"invalid URL on layer: {url}")

    def _store_manifest(self, name: str, digest: Digest, data: bytes, parsed: Parsed) -> None:
        self.storage.put_blob(self.paths.blob(digest), data)
        self._catalogue.appeared(name)
        if parsed.subject is not None:
            subject = checked_digest(parsed.subject.digest)
            self.write_link(self.paths.referrer_link(name, subject, digest), digest)
        self.write_link(self.paths.revision_link(name, digest), digest)

    def _tag(self, name: str, tag: str, digest: Digest) -> None:
        self.write_link(self.paths.tag_index_link(name, tag, digest), digest)
        self.write_link(self.paths.tag_link(name, tag), digest)

    async def keep_manifest(self, name: str, digest: Digest, data: bytes, tag: str) -> None:
        """Store what an upstream sent, whether or not its parts are here yet; verified by the caller."""
        parsed = parse(data, "")
        await asyncio.to_thread(self._store_manifest, name, digest, data, parsed)
        if tag:
            async with self._tag_lock:
                await asyncio.to_thread(self._tag, name, tag, digest)

    async def delete_manifest(self, name: str, reference: str) -> list[str]:
        """Remove a tag, or a manifest with every tag that names it; the tags removed."""
        async with self._tag_lock:
            return await asyncio.to_thread(self._delete_manifest, name, reference)

    def _delete_manifest(self, name: str, reference: str) -> list[str]:
        if ":" not in reference:
            if self.link(self.paths.tag_link(name, reference)) is None:
                self._check_exists(name)
                raise Refused("MANIFEST_UNKNOWN", {"Tag": reference})
            self._remove_tag(name, reference)
            return [reference]
        digest = checked_digest(reference)
        link = self.paths.revision_link(name, digest)
        if self.link(link) is None:
            self._check_exists(name)
            raise Refused("MANIFEST_UNKNOWN", {"Digest": digest})
        history = f"index/{algorithm_of(digest)}/{encoded_of(digest)}/link"
        tagged = self.storage.linked(self.paths.tags(name), history)  # now, or some time before
        gone = [tag for tag in tagged if self.resolve(name, tag) == digest]
        for tag in gone:
            self._remove_tag(name, tag)
        subject = self._subject_of(digest)
        self.storage.remove(link, link.parent)
        if subject is not None:
            self.storage.remove(self.paths.referrer_link(name, subject, digest), self.paths.repository(name))
        return gone

    def delete_manifest_now(self, name: str, digest: Digest) -> None:
        """The same for the collector, which is in a thread; nothing when it is gone already."""
        try:
            self._delete_manifest(name, digest)
        except Refused:
            return

    def _remove_tag(self, name: str, tag: str) -> None:
        # The current link goes first: without it there is no such tag, whatever else is left.
        link = self.paths.tag_link(name, tag)
        self.storage.remove(link, link.parent)
        self.storage.remove_tree(self.paths.tags(name) / tag)

    def _subject_of(self, digest: Digest) -> Digest | None:
        try:
            parsed = parse(self.storage.read(self.paths.blob(digest)) or b"", "")
        except Refused:
            return None
        return checked_digest(parsed.subject.digest) if parsed.subject else None

    # -- lists

    def _check_exists(self, name: str) -> None:
        if not self.storage.names(self.paths.repository(name)):
            raise Refused("NAME_UNKNOWN", {"name": name})

    async def tags(self, name: str) -> list[str]:
        """Every tag, sorted. Raises `Refused` NAME_UNKNOWN."""

        def found() -> list[str]:
            self._check_exists(name)
            return self.storage.linked(self.paths.tags(name), "current/link")

        return await asyncio.to_thread(found)

    async def catalog(self) -> list[str]:
        """Every repository with a manifest, sorted; it may have lost its last one."""
        return await asyncio.to_thread(self._catalogue.names)

    def names(self) -> list[str]:
        """Every repository with manifests, in no order, as the storage has them and no index. Blocks."""
        found: list[str] = []

        def walk(directory: Path, prefix: str) -> None:
            for name in self.storage.names(directory):
                if name == "_manifests":
                    found.append(prefix)
                elif not name.startswith("_"):
                    walk(directory / name, f"{prefix}/{name}" if prefix else name)

        walk(self.paths.repositories, "")
        return found

    def all_names(self) -> list[str]:
        """Also those where something is only being uploaded. Blocks."""
        found: list[str] = []

        def walk(directory: Path, prefix: str) -> None:
            children = self.storage.names(directory)
            if any(name.startswith("_") for name in children):
                found.append(prefix)
            for name in children:
                if not name.startswith("_"):
                    walk(directory / name, f"{prefix}/{name}" if prefix else name)

        walk(self.paths.repositories, "")
        return found

    async def referrers(self, name: str, subject: Digest) -> list[Descriptor]:
        """Descriptors of what names a manifest as its subject, by digest; what clients put under the fallback tag is among them."""
        return await asyncio.to_thread(self.referrers_now, name, subject)

    def referrers_now(self, name: str, subject: Digest) -> list[Descriptor]:
        """The same, blocking."""
        found = {each.digest: each for each in self._described(self._referring(name, subject))}
        fallback = self.resolve(name, subject.replace(":", "-")[:128])
        if fallback is not None:
            try:
                for each in parse_index(self.storage.read(self.paths.blob(fallback)) or b"").manifests:
                    found.setdefault(each.digest, each)
            except InvalidParameter:
                pass
        return [found[digest] for digest in sorted(found)]

    def _referring(self, name: str, subject: Digest) -> list[Digest]:
        """Manifests of a repository with this subject."""
        found: list[Digest] = []
        directory = self.paths.referrers(name, subject)
        for algorithm in self.storage.names(directory):
            named = self.storage.linked(directory / algorithm, "link")
            there = self.storage.linked(self.paths.revisions(name) / algorithm, "link", among=named)
            found += [checked_digest(f"{algorithm}:{encoded}") for encoded in there]
        return found

    def _described(self, digests: list[Digest]) -> list[Descriptor]:
        """Manifests as referrers are described, each read once in its life."""
        if not digests:
            return []
        known = self.index.descriptions(digests)
        absent = [digest for digest in digests if digest not in known]
        if absent:
            with ThreadPoolExecutor(_READERS, "describe") as pool:
                read = [each for each in pool.map(self._describe, absent) if each is not None]
            self.index.keep_descriptions(read)
            known.update((each.digest, each) for each in read)
        return [known[digest] for digest in digests if digest in known]

    def _describe(self, digest: Digest) -> Descriptor | None:
        try:
            data = self.storage.read(self.paths.blob(digest)) or b""
            parsed = parse(data, "")
        except Refused:
            return None
        return Descriptor(
            media_type=parsed.media_type,
            digest=digest,
            size=len(data),
            artifact_type=parsed.artifact_type,
            annotations=parsed.annotations,
        )


class _Kind(msgspec.Struct, rename="camel"):
    media_type: str | None = None
    schema_version: int | None = None
    manifests: object = None
    artifact_type: str | None = None


def media_type_of(data: bytes) -> str:
    """What a stored manifest is served as: what it says of itself, else what it looks like."""
    try:
        kind = msgspec.json.decode(data, type=_Kind)
    except msgspec.DecodeError:
        return "application/octet-stream"
    return kind.media_type or (OCI_INDEX if kind.manifests else OCI_MANIFEST)


def parse(data: bytes, media_type: str) -> Parsed:
    """Read a manifest; `media_type` is what it was sent as, or "". Raises `Refused` MANIFEST_INVALID.

    A document that is an index and a manifest at once is refused, and one that is not what it was sent as (CVE-2021-41190).
    """
    own = media_type_of(data)
    if media_type and own != media_type:
        raise Refused("MANIFEST_INVALID", f"mediaType in the manifest is {own!r}, sent as {media_type!r}")
    try:
        if own in INDEX_TYPES:
            return _parsed_index(parse_index(data, "manifest"), own)
        return _parsed_manifest(parse_manifest(data, "manifest"), own)
    except InvalidParameter as error:
        raise Refused("MANIFEST_INVALID", str(error)) from None


def _parsed_index(index: Index, media_type: str) -> Parsed:
    return Parsed(media_type, index.manifests, True, index.subject, index.artifact_type, index.annotations)


def _parsed_manifest(manifest: Manifest, media_type: str) -> Parsed:
    artifact = manifest.artifact_type or manifest.config.media_type
    parts = [manifest.config, *manifest.layers]
    return Parsed(media_type, parts, False, manifest.subject, artifact, manifest.annotations)
