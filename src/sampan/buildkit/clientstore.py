"""A store of blobs at the client, on its session: where `type=local` cache is written to and read from.

The client serves containerd's content service, and knows several stores by the name in a header.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from google.protobuf.message import Message

from sampan.buildkit.protos import content_pb2 as pb
from sampan.errors import Conflict, InvalidParameter, SampanError, SystemFailure
from sampan.grpc.client import GrpcClient
from sampan.names.digest import parse_digest
from sampan.oci.image import (
    DOCUMENT_LIMIT,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    describe,
    stated_media_type,
)
from sampan.registry.copying import Destination, Source, verified

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor

_METHODS = pb.DESCRIPTOR.services_by_name["Content"].methods_by_name
READ: MethodDescriptor = _METHODS["Read"]
_INFO = _METHODS["Info"]
_WRITE = _METHODS["Write"]
_STORE = "buildkit-attachable-store-id"
_CHUNK = 1 << 20


class ClientStore(Destination, Protocol):
    """One of a client's stores. Copies go to it; `ClientSource` reads from it."""

    async def size(self, digest: str) -> int:
        """Bytes of a blob. Raises `NotFound`."""
        ...

    def read(self, digest: str, offset: int, length: int) -> AsyncIterator[bytes]:
        """A part of a blob. Raises `NotFound`."""
        ...


class GrpcStore:
    """`ClientStore` of a client that speaks gRPC."""

    def __init__(self, client: GrpcClient, store: str) -> None:
        if not store.isascii() or not store.isprintable():
            raise InvalidParameter(f"{store!r}: the name of a client's store must be printable ASCII")
        self._client = client
        self._metadata = [(_STORE, store)]

    async def size(self, digest: str) -> int:
        """See `ClientStore`."""
        answer = await self._call(_INFO, pb.InfoRequest(digest=digest))
        return int(answer.info.size)

    async def read(self, digest: str, offset: int, length: int) -> AsyncIterator[bytes]:
        """See `ClientStore`."""
        left = length
        async with self._client.stream(READ, self._metadata) as stream:
            request = pb.ReadContentRequest(digest=digest, offset=offset, size=length)
            await stream.send_message(request, end=True)
            while (message := await stream.recv_message()) is not None:
                data = message.data[:left]
                left -= len(data)
                if data:
                    yield data

    async def put_blob(self, descriptor: Descriptor, source: Source) -> bool:
        """Take a blob, which the client verifies; False when it was there already."""
        try:
            if await self.size(descriptor.digest) == descriptor.size:
                return False
        except SampanError:
            pass  # not there; what else is wrong comes again when it is written
        await self._write(descriptor, source.blob(descriptor, 0, descriptor.size))
        return True

    async def put_manifest(self, descriptor: Descriptor, data: bytes, *, named: bool) -> None:
        """Take a manifest; its name in the directory's index is the client's own affair."""

        async def whole() -> AsyncIterator[bytes]:
            yield data

        await self._write(descriptor, whole())

    async def _write(self, descriptor: Descriptor, chunks: AsyncIterator[bytes]) -> None:
        def message(action: pb.WriteAction, offset: int = 0, data: bytes = b"") -> pb.WriteContentRequest:
            return pb.WriteContentRequest(
                action=action,
                ref=descriptor.digest,
                total=descriptor.size,
                expected=descriptor.digest,
                offset=offset,
                data=data,
            )

        try:
            async with self._client.stream(_WRITE, self._metadata) as stream:
                await stream.send_message(message(pb.STAT))
                begun = await stream.recv_message()
                if begun is None:
                    raise SystemFailure(f"{descriptor.digest}: the client's store did not answer")
                skip, offset = int(begun.offset), 0
                async for chunk in chunks:
                    for start in range(0, len(chunk), _CHUNK):
                        part = chunk[start : start + _CHUNK]
                        rest = part[max(0, skip - offset) :]
                        at = offset + len(part) - len(rest)
                        offset += len(part)
                        if rest:
                            await stream.send_message(message(pb.WRITE, at, rest))
                            await stream.recv_message()
                await stream.send_message(message(pb.COMMIT, descriptor.size), end=True)
                await stream.recv_message()
        except Conflict:
            return  # it has it

    async def _call(self, method: MethodDescriptor, request: Message) -> Any:
        async with self._client.stream(method, self._metadata) as stream:
            await stream.send_message(request, end=True)
            return await stream.recv_message()


class ClientSource:
    """What a digest names in a client's store. `registry.copying.Source`."""

    def __init__(self, store: ClientStore, digest: str) -> None:
        self._store = store
        self._digest = parse_digest(digest)

    async def target(self) -> Descriptor:
        """See `Source`. The type is what the document says."""
        size = await self._store.size(self._digest)
        data = await self.document(Descriptor(digest=self._digest, size=size))
        return describe(data, media_type_of(data))

    async def document(self, descriptor: Descriptor) -> bytes:
        """See `Source`."""
        if not 0 <= descriptor.size <= DOCUMENT_LIMIT:
            raise InvalidParameter(
                f"{descriptor.digest}: {descriptor.size} bytes are too many for a document"
            )
        parts = [part async for part in self.blob(descriptor, 0, descriptor.size)]
        return verified(b"".join(parts), descriptor)

    def blob(self, descriptor: Descriptor, offset: int, length: int) -> AsyncIterator[bytes]:
        """See `Source`."""
        return self._store.read(descriptor.digest, offset, length)


def media_type_of(data: bytes) -> str:
    """Of a manifest or index, which may say it or not. Raises `InvalidParameter` for another document."""
    try:
        told = stated_media_type(data)
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"invalid manifest in the client's store: {error}") from None
    if told not in INDEX_TYPES | MANIFEST_TYPES:
        raise InvalidParameter(f"unsupported manifest media type {told!r}")
    return told
