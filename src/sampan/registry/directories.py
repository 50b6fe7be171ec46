"""Images in a directory as skopeo's `dir:` has them: the manifest, and the blobs beside it by the hex of their digests.

One image a directory. A manifest of an index lies in `HEX.manifest.json`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from sampan.errors import InvalidParameter, NotFound
from sampan.names.digest import Digest, algorithm_of, digest_of, encoded_of
from sampan.oci.image import (
    DOCUMENT_LIMIT,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    describe,
    stated_media_type,
)
from sampan.registry.blobfiles import read_document, stored, write_document, written
from sampan.registry.copying import Source
from sampan.registry.failures import WrongContent

_VERSION = b"Directory Transport Version: 1.1\n"


class Directory:
    """The image in a directory. Source and destination of copies."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    # -- reading

    async def target(self) -> Descriptor:
        data = read_document(self._directory / "manifest.json", DOCUMENT_LIMIT)
        return describe(data, _media_type(data, self._directory))

    async def document(self, descriptor: Descriptor) -> bytes:
        digest = descriptor.checked_digest
        for path in (self._directory / "manifest.json", self._manifest(digest)):
            if path.exists():
                data = read_document(path, DOCUMENT_LIMIT)
                if digest_of(data, algorithm_of(digest)) == digest:
                    return data
        raise NotFound(f"{self._directory}: {digest} is not there")

    def blob(self, descriptor: Descriptor, offset: int, length: int) -> AsyncIterator[bytes]:
        path = self._blob(descriptor.checked_digest)
        return stored(path, offset, length, f"{self._directory}: {descriptor.digest} is not there")

    # -- writing

    async def put_blob(self, descriptor: Descriptor, source: Source) -> bool:
        return await written(self._blob(descriptor.checked_digest), descriptor, source)

    async def put_manifest(self, descriptor: Descriptor, data: bytes, *, named: bool) -> None:
        if not named:
            write_document(self._manifest(descriptor.checked_digest), data)
            return
        write_document(self._directory / "version", _VERSION)
        write_document(self._directory / "manifest.json", data)

    def _blob(self, digest: Digest) -> Path:
        return self._directory / encoded_of(digest)

    def _manifest(self, digest: Digest) -> Path:
        return self._directory / f"{encoded_of(digest)}.manifest.json"


def _media_type(data: bytes, directory: Path) -> str:
    import msgspec

    try:
        told = stated_media_type(data)
    except msgspec.DecodeError as error:
        raise WrongContent(f"{directory}/manifest.json: {error}") from None
    if told not in INDEX_TYPES | MANIFEST_TYPES:
        raise InvalidParameter(f"{directory}/manifest.json: unsupported manifest media type {told!r}")
    return told
