"""Images in an OCI layout directory (image-layout.md): read, verified, and written so that a break leaves nothing half done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from sampan.errors import NotFound
from sampan.names.digest import Digest, algorithm_of, digest_of, encoded_of
from sampan.oci.image import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_REF_NAME,
    DOCUMENT_LIMIT,
    Descriptor,
    Index,
    encode,
    parse_index,
    parse_layout,
)
from sampan.registry.blobfiles import read_document, stored, write_document, written
from sampan.registry.copying import Source
from sampan.registry.failures import WrongContent


class Layout:
    """One image of a layout: its only one, or the one with a name. Source and destination of copies."""

    def __init__(self, directory: Path, name: str = "") -> None:
        """`name` is a tag (`org.opencontainers.image.ref.name`) or a full reference (containerd's annotation)."""
        self._directory = directory
        self._name = name

    # -- reading

    async def target(self) -> Descriptor:
        parse_layout(read_document(self._directory / "oci-layout", DOCUMENT_LIMIT), "oci-layout")
        entries = self._index().manifests
        if self._name:
            entries = [each for each in entries if self._name in _names(each)]
        distinct = {each.digest: each for each in entries}
        if len(distinct) != 1:
            named = (
                ", ".join(sorted(name for each in self._index().manifests for name in _names(each)))
                or "none has a name"
            )
            what = "no image" if not distinct else f"{len(distinct)} images"
            label = f" called {self._name}" if self._name else ""
            raise NotFound(f"{self._directory}: {what}{label} in the layout (names: {named})")
        return next(iter(distinct.values()))

    async def document(self, descriptor: Descriptor) -> bytes:
        data = read_document(self._path(descriptor.checked_digest), DOCUMENT_LIMIT)
        if digest_of(data, algorithm_of(descriptor.checked_digest)) != descriptor.digest:
            raise WrongContent(f"{self._directory}: {descriptor.digest} is damaged")
        return data

    def blob(self, descriptor: Descriptor, offset: int, length: int) -> AsyncIterator[bytes]:
        path = self._path(descriptor.checked_digest)
        return stored(path, offset, length, f"{self._directory}: {descriptor.digest} is not there")

    # -- writing

    async def put_blob(self, descriptor: Descriptor, source: Source) -> bool:
        return await written(self._path(descriptor.checked_digest), descriptor, source)

    async def put_manifest(self, descriptor: Descriptor, data: bytes, *, named: bool) -> None:
        write_document(self._path(descriptor.checked_digest), data)
        if not named:
            return
        write_document(self._directory / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        kept = [each for each in self._index().manifests if not self._replaces(each, descriptor)]
        annotations = dict(descriptor.annotations) | self._annotations()
        entry = msgspec.structs.replace(descriptor, annotations=annotations, platform=None, data="")
        index = Index(schema_version=2, manifests=[*kept, entry])
        write_document(self._directory / "index.json", encode(index))

    def _replaces(self, old: Descriptor, new: Descriptor) -> bool:
        return self._name in _names(old) if self._name else old.digest == new.digest

    def _annotations(self) -> dict[str, str]:
        if "/" in self._name:
            return {ANNOTATION_IMAGE_NAME: self._name, ANNOTATION_REF_NAME: self._name.rpartition(":")[2]}
        return {ANNOTATION_REF_NAME: self._name} if self._name else {}

    def _index(self) -> Index:
        path = self._directory / "index.json"
        return (
            parse_index(read_document(path, DOCUMENT_LIMIT), "index.json")
            if path.exists()
            else Index(schema_version=2)
        )

    def _path(self, digest: Digest) -> Path:
        return self._directory / "blobs" / algorithm_of(digest) / encoded_of(digest)


def _names(entry: Descriptor) -> set[str]:
    found = {entry.annotations.get(ANNOTATION_IMAGE_NAME, ""), entry.annotations.get(ANNOTATION_REF_NAME, "")}
    return found - {""}
