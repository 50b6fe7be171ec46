"""The content service that the builder serves: blobs of build records, and those of the engine's images. It only reads."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, NoReturn

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.buildkit.protos import content_pb2 as pb
from sampan.errors import InvalidParameter, NotFound, NotSupported
from sampan.names.digest import parse_digest

if TYPE_CHECKING:
    from grpclib.server import Stream

    from sampan.buildkit.history import BuildHistory
    from sampan.content.interface import ContentStore
    from sampan.grpc.server import Caller

_CHUNK = 1 << 20
_LISTED = 100
"""In one message."""


class Blobs:
    """containerd's `services.content.v1.Content`."""

    def __init__(self, content: ContentStore, history: BuildHistory) -> None:
        self._content = content
        self._history = history

    async def info(self, request: pb.InfoRequest, caller: Caller) -> pb.InfoResponse:
        """Of one blob."""
        return pb.InfoResponse(info=await self._info(request.digest))

    async def list(
        self, request: pb.ListContentRequest, caller: Caller
    ) -> AsyncGenerator[pb.ListContentResponse, None]:
        """All blobs, each once."""
        if request.filters:
            raise NotSupported("filters of blobs are not in this version of Sampan's builder")
        found = {
            row.digest: _info(row.digest, row.size, row.created_ns) for row in await self._history.blobs()
        }
        for blob in await self._content.walk():
            found[blob.digest] = _info(blob.digest, blob.size, blob.created_ns, dict(blob.labels))
        infos = list(found.values())
        for start in range(0, len(infos), _LISTED):
            yield pb.ListContentResponse(info=infos[start : start + _LISTED])

    async def read(
        self, request: pb.ReadContentRequest, caller: Caller
    ) -> AsyncGenerator[pb.ReadContentResponse, None]:
        """A part of a blob; without a size all that is behind the offset."""
        info = await self._info(request.digest)
        offset, size = request.offset, request.size or info.size - request.offset
        if offset < 0 or size < 0 or offset + size > info.size:
            raise InvalidParameter(
                f"read of {size} bytes from {offset} is out of the range of {request.digest}, which has {info.size}"
            )
        kept = await self._history.blob(request.digest)
        if kept is not None:
            for start in range(offset, offset + size, _CHUNK):
                yield pb.ReadContentResponse(
                    offset=start, data=kept[start : min(start + _CHUNK, offset + size)]
                )
            return
        digest = parse_digest(request.digest)
        async for data in self._content.stream(digest, offset=offset, length=size, chunk=_CHUNK):
            yield pb.ReadContentResponse(offset=offset, data=data)
            offset += len(data)

    async def _info(self, text: str) -> pb.Info:
        digest = parse_digest(text)
        row = await self._history.blob_row(digest)
        if row is not None:
            return _info(row.digest, row.size, row.created_ns)
        blob = await self._content.info(digest)
        return _info(blob.digest, blob.size, blob.created_ns, dict(blob.labels))

    # -- nobody writes here

    async def status(self, request: pb.StatusRequest, caller: Caller) -> pb.StatusResponse:
        """Of a blob on its way in: there is none."""
        raise NotFound(f"{request.ref}: not found")

    async def list_statuses(self, request: pb.ListStatusesRequest, caller: Caller) -> pb.ListStatusesResponse:
        """Of all blobs on their way in."""
        return pb.ListStatusesResponse()

    async def update(self, request: pb.UpdateRequest, caller: Caller) -> pb.UpdateResponse:
        """Refused."""
        _refuse()

    async def delete(self, request: pb.DeleteContentRequest, caller: Caller) -> Any:
        """Refused."""
        _refuse()

    async def abort(self, request: pb.AbortRequest, caller: Caller) -> Any:
        """Refused."""
        _refuse()

    async def write(self, stream: Stream[Any, Any]) -> None:
        """Refused."""
        _refuse()


def _refuse() -> NoReturn:
    raise NotSupported("read-only content store")


def _info(digest: str, size: int, created_ns: int, labels: dict[str, str] | None = None) -> pb.Info:
    created = Timestamp()
    created.FromNanoseconds(created_ns)
    return pb.Info(digest=digest, size=size, created_at=created, updated_at=created, labels=labels or {})
