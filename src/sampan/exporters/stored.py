"""What the engine's content store has, as a source of copies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from sampan.content.interface import ContentStore
from sampan.errors import NotFound
from sampan.names.digest import algorithm_of, digest_of
from sampan.oci.image import Descriptor


class StoredImage:
    """`registry.copying.Source` of an image, or of blobs; `others` are some that are not in the store."""

    def __init__(
        self,
        content: ContentStore,
        target: Descriptor | None = None,
        others: Mapping[str, bytes] | None = None,
    ) -> None:
        self._content = content
        self._target = target
        self._others = others or {}

    async def target(self) -> Descriptor:
        """See `Source`."""
        if self._target is None:
            raise NotFound("no image has this name")
        return self._target

    async def document(self, descriptor: Descriptor) -> bytes:
        """See `Source`."""
        data = self._others.get(descriptor.digest)
        if data is None:
            return await self._content.read(descriptor.checked_digest)
        assert digest_of(data, algorithm_of(descriptor.checked_digest)) == descriptor.digest
        return data

    async def blob(self, descriptor: Descriptor, offset: int, length: int) -> AsyncIterator[bytes]:
        """See `Source`."""
        if descriptor.digest in self._others:
            yield self._others[descriptor.digest][offset : offset + length]
            return
        async for chunk in self._content.stream(descriptor.checked_digest, offset=offset, length=length):
            yield chunk
