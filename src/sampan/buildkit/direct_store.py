"""A store of blobs at a client of Sampan's own, over frames: `clientstore.ClientStore`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from sampan.errors import NotFound, SystemFailure

if TYPE_CHECKING:
    from sampan.buildkit.frames import Channel
    from sampan.oci.image import Descriptor
    from sampan.registry.copying import Source

_CHUNK = 1 << 20


class DirectStore:
    """One of them, by its name."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self._name = name

    async def size(self, digest: str) -> int:
        """See `ClientStore`."""
        async with self._channel.question(self._words("blob-size", digest=digest)) as talk:
            size = (await talk.answer()).get("size")
        if not isinstance(size, int):
            raise NotFound(f"content {digest}: not found")
        return size

    async def read(self, digest: str, offset: int, length: int) -> AsyncIterator[bytes]:
        """See `ClientStore`."""
        words = self._words("blob", digest=digest, offset=offset, length=length)
        async with self._channel.question(words) as talk:
            async for data in talk.data():
                part = data[:length]
                length -= len(part)
                if part:
                    yield part

    async def put_blob(self, descriptor: Descriptor, source: Source) -> bool:
        """See `ClientStore`."""
        return await self._put(descriptor.digest, source.blob(descriptor, 0, descriptor.size))

    async def put_manifest(self, descriptor: Descriptor, data: bytes, *, named: bool) -> None:
        """See `ClientStore`."""

        async def whole() -> AsyncIterator[bytes]:
            yield data

        await self._put(descriptor.digest, whole())

    async def _put(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        async with self._channel.question(self._words("put", digest=digest)) as talk:
            if not (await talk.answer()).get("wanted"):
                return False
            async for chunk in chunks:
                for start in range(0, len(chunk), _CHUNK):
                    await talk.send(chunk[start : start + _CHUNK])
            await talk.end()
            if not (await talk.answer()).get("stored"):
                raise SystemFailure(f"{digest}: the client did not store it")
        return True

    def _words(self, ask: str, **more: Any) -> dict[str, Any]:
        return {"ask": ask, "store": self._name, **more}
