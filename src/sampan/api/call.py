"""What a handler is given: one request in Docker's terms."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from sampan.api.errors import message_of, status_of
from sampan.api.frontdoor import BuilderDoors, Hijacked, HijackedStream, Http2Door, door_of
from sampan.api.query import Query
from sampan.api.responses import standard_headers
from sampan.engineapi.decode import decode
from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

T = TypeVar("T")

log = logging.getLogger(__name__)

MAX_BODY = 32 * 1024 * 1024
"""Bytes of a JSON body; uploads (load, build, cp) are streamed and have no such bound."""

RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"

_encoder = msgspec.json.Encoder()


class Call:
    """One request: where it goes, what it asks, and the ways to answer at length."""

    def __init__(
        self,
        engine: Engine,
        request: web.BaseRequest,
        version: tuple[int, int],
        fields: Mapping[str, str],
        builder: BuilderDoors,
    ) -> None:
        self.engine = engine
        self.request = request
        self.version = version
        self.fields = fields
        self.builder = builder
        self.query = Query(request.rel_url.raw_query_string)

    async def body(self, shape: type[T], *, required: bool = False) -> T:
        """The JSON body as `shape`; no body at all is an empty object, unless it is `required`.

        Raises `InvalidParameter` naming the field at fault, also for a wrong content type.
        """
        data = await self.read_body()
        given = self.request.headers.get("Content-Type", "")
        if not data and not given:
            return decode(b"" if required else b"{}", shape)
        if not given:
            raise InvalidParameter("malformed Content-Type header (): mime: no media type")
        if self.request.content_type != "application/json":
            raise InvalidParameter(f"unsupported Content-Type header ({given}): must be 'application/json'")
        return decode(data if data or required else b"{}", shape)

    async def read_body(self) -> bytes:
        """The whole body. Raises `InvalidParameter` beyond `MAX_BODY`."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in self.request.content.iter_any():
            size += len(chunk)
            if size > MAX_BODY:
                raise InvalidParameter(f"the request body is larger than {MAX_BODY} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def upload(self) -> AsyncIterator[bytes]:
        """The body as it arrives, for archives of any size."""
        return self.request.content.iter_any()

    @asynccontextmanager
    async def stream(
        self,
        content_type: str = "application/json",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[StreamWriter]:
        """Answer in pieces; the headers leave at once. A client that goes away ends the block quietly, wherever it waits."""
        response = web.StreamResponse(status=status, headers={**standard_headers(), **(headers or {})})
        response.content_type = content_type
        await response.prepare(self.request)
        task = asyncio.current_task()
        assert task is not None
        lost = False

        def on_lost() -> None:
            nonlocal lost
            lost = True
            task.cancel()

        forget = door_of(self.request).watch_loss(on_lost)
        try:
            yield StreamWriter(response)
            await response.write_eof()
        except ConnectionError:
            pass  # the client went away while we wrote
        except asyncio.CancelledError:
            if not lost:
                raise
            task.uncancel()
        except Exception:
            # The status is sent: only a body that ends too early still tells the client. An error's own answer
            # in the midst of it would be taken for data.
            log.exception("answer broken off: %s %s", self.request.method, self.request.path)
            if self.request.transport is not None:
                self.request.transport.abort()
        finally:
            forget()

    async def unless_lost(self, work: Awaitable[T]) -> T:
        """Await `work`, and cancel it when the client goes away (raises CancelledError then)."""
        future = asyncio.ensure_future(work)
        forget = door_of(self.request).watch_loss(future.cancel)
        try:
            return await future
        finally:
            forget()
            if not future.done():
                future.cancel()

    @asynccontextmanager
    async def hijack(self, content_type: str = RAW_STREAM) -> AsyncIterator[HijackedStream]:
        """Turn the connection into a byte stream, as attach and exec do; it is closed when the block ends.

        The handler returns `Call.hijacked()` afterwards.
        """
        stream = door_of(self.request).hijack()
        if self.request.headers.get("Upgrade"):
            start = f"101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: {content_type}"
        else:
            start = f"200 OK\r\nContent-Type: {RAW_STREAM}"
        await stream.write(f"HTTP/1.1 {start}\r\n\r\n".encode())
        yield stream

    async def upgrade(self, protocol: str, take: Http2Door) -> web.StreamResponse:
        """Turn the connection over to another protocol; the handler returns what this returns, when it is lost."""
        head = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        await door_of(self.request).hand_over(head.encode(), take)
        return self.hijacked()

    async def refuse_hijack(self, error: Exception) -> web.StreamResponse:
        """An error instead of the stream, as dockerd writes it: plain text, and the end of the connection."""
        status = HTTPStatus(status_of(error))
        start = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {RAW_STREAM}\r\n\r\n"
        stream = door_of(self.request).hijack()
        await stream.write(f"{start}{message_of(error)}\r\n".encode())
        return self.hijacked()

    @staticmethod
    def hijacked() -> web.StreamResponse:
        """The handler's return value after `hijack`."""
        return Hijacked()


class StreamWriter:
    """The writing end of a streamed answer. Each method waits while the client does not read."""

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response

    async def write(self, data: bytes) -> None:
        """Raw bytes, as one chunk."""
        await self.response.write(data)

    async def json(self, value: Any) -> None:
        """One JSON value and CR LF, as dockerd's stream formatter ends each."""
        await self.response.write(_encoder.encode(value) + b"\r\n")
