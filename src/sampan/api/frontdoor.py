"""The front door: the protocol of every accepted connection, before and beside HTTP.

It looks at the first bytes: an HTTP/2 preface is handed to whoever serves gRPC, everything else goes to aiohttp. It stays the
transport's protocol for the connection's life, because aiohttp cannot do what Docker's attach and exec need: after an upgrade the
connection is a plain byte stream whose two directions close independently, and the first input may sit in the very segment that
held the request.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from sampan.api.http import LONGEST_LINE

if TYPE_CHECKING:
    from pathlib import Path

    from sampan.build.interface import BuildRequest, Follow
    from sampan.solver.progress import Event

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HIGH_WATER = 256 * 1024
_UPGRADE = re.compile(rb"\r\nupgrade:[ \t]*(?:tcp|h2c)[ \t]*\r\n", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)


class Http2Door(Protocol):
    """Takes over a connection that speaks HTTP/2 (the builder's gRPC). `received` are the bytes read so far."""

    def __call__(self, transport: asyncio.Transport, received: bytes) -> asyncio.Protocol: ...


class BuilderDoors(Http2Door, Protocol):
    """The builder's doors: gRPC in which it serves (the call itself), and in which it asks (`session`)."""

    def session(self, headers: Mapping[str, Sequence[str]]) -> Http2Door:
        """For a connection on which the client serves; the headers say what (names in lower case).

        Raises `SampanError` for a session that cannot be.
        """
        ...

    async def direct(self, stream: HijackedStream) -> None:
        """A whole build for a client of our own, on a connection that was upgraded for it."""
        ...

    async def posted(self, request: BuildRequest, body: AsyncIterator[bytes], follow: Follow) -> str:
        """A build that is one request: the image's id, or "" where none was asked for. Raises as the builder does."""
        ...

    async def posted_directory(self, request: BuildRequest, directory: Path, follow: Follow) -> str:
        """The same of files that are here already."""
        ...

    def status(self, events: Sequence[Event]) -> bytes:
        """What a build told, as BuildKit's clients read it (`StatusResponse`)."""
        ...

    @property
    def open_connections(self) -> int:
        """Clients that are connected."""
        ...

    async def close(self) -> None:
        """End every connection."""
        ...


class FrontDoor(asyncio.Protocol):
    """One connection. See the module."""

    def __init__(self, http: web.Server, http2: Http2Door | None) -> None:
        self._http = http
        self._http2 = http2
        self._handler: RequestHandler | None = None
        self._transport: asyncio.Transport | None = None
        self._first = b""
        self._held: bytes | None = None
        self._hijacked: HijackedStream | None = None
        self._successor: asyncio.Protocol | None = None
        self._on_lost: set[Callable[[], object]] = set()
        self._eof = False
        self._answered = 0
        self._body: StreamReader | None = None
        """Of the newest request: all older ones are whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._successor is not None:
            self._successor.data_received(data)
        elif self._hijacked is not None:
            self._hijacked.feed(data)
        elif self._held is not None:
            self._held += data
        else:
            self._sort(self._first + data)

    def _sort(self, received: bytes) -> None:
        """Find out what begins here: HTTP/2, a request that wants to hijack, or anything else for aiohttp."""
        self._first = b""
        if self._handler is None and self._http2 is not None:
            if received.startswith(HTTP2_PREFACE):
                assert self._transport is not None
                self._transport.set_protocol(self._http2(self._transport, received))
                return
            if HTTP2_PREFACE.startswith(received):
                self._first = received
                return
        if received.startswith(b"POST ") and self._between_requests():
            end = received.find(b"\r\n\r\n") + 4
            if end < 4 and len(received) < LONGEST_LINE:
                self._first = received
                return
            if end >= 4 and _UPGRADE.search(received, 0, end):
                self._hold_behind(received, end)
                return
        self._pass_on(received)

    def _between_requests(self) -> bool:
        """False while a body may still be arriving: its bytes are not looked at."""
        return self._handler is None or self._handler._waiter is not None

    def _hold_behind(self, received: bytes, head_end: int) -> None:
        """Give aiohttp exactly the request; what comes behind it is the hijacked stream's first input.

        aiohttp's parser would take those bytes for a next request.
        """
        length = _LENGTH.search(received, 0, head_end)
        end = head_end + (int(length[1]) if length else 0)
        if len(received) < end:
            self._first = received
            return
        self._held = received[end:]
        self._pass_on(received[:end])

    def _pass_on(self, received: bytes) -> None:
        if self._handler is None:
            assert self._transport is not None
            self._handler = self._http()
            self._handler.connection_made(self._transport)
        self._handler.data_received(received)
        if self._handler._messages:
            self._body = self._handler._messages[-1][1]

    def release(self) -> None:
        """The request was answered as HTTP. What came behind one that wanted to hijack is the next request."""
        self._answered += 1
        held, self._held = self._held, None
        if held and self._hijacked is None:
            self._sort(held)
        if self._eof and self._handler is not None and not self._unanswered():
            self._handler.close()  # once the answer is out

    def eof_received(self) -> bool:
        """True keeps the transport open: a client that has no more input still wants the output.

        As in Go's server what would go on for ever (events, logs that are followed) ends here: end of input is all that
        is seen of a client that has gone.
        """
        if self._successor is not None:
            return bool(self._successor.eof_received())
        if self._hijacked is not None:
            self._hijacked.feed_eof()
            return True
        if self._first or not self._unanswered() or self._body is None or not self._body.is_eof():
            return False
        self._eof = True
        self.end_streams()
        return True

    def _unanswered(self) -> bool:
        return self._handler is not None and self._handler._request_count > self._answered

    def pause_writing(self) -> None:
        if self._successor is not None:
            self._successor.pause_writing()
        elif self._hijacked is not None:
            self._hijacked.pause_writing()
        elif self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        if self._successor is not None:
            self._successor.resume_writing()
        elif self._hijacked is not None:
            self._hijacked.resume_writing()
        elif self._handler is not None:
            self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._successor is not None:
            self._successor.connection_lost(exc)
        if self._hijacked is not None:
            self._hijacked.connection_lost()
        if self._handler is not None:
            self._handler.connection_lost(exc)
        self.end_streams()

    def end_streams(self) -> None:
        """Events, logs that are followed and whatever else watches the client end as if it had gone."""
        for callback in tuple(self._on_lost):
            callback()

    def watch_loss(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back when the client is gone; returns the function that takes the wish back."""
        self._on_lost.add(callback)
        if self._eof:
            asyncio.get_running_loop().call_soon(lambda: callback in self._on_lost and callback())
        return lambda: self._on_lost.discard(callback)

    def hijack(self) -> HijackedStream:
        """Take the connection away from HTTP, with every byte that came behind the request."""
        assert self._transport is not None and self._handler is not None
        self._hijacked = HijackedStream(self._transport)
        held, self._held = self._held, None
        if held:
            self._hijacked.feed(held)
        if self._eof:
            self._hijacked.feed_eof()
        return self._hijacked

    async def hand_over(self, head: bytes, take: Http2Door) -> None:
        """Answer with `head`, and give the connection to another protocol for the rest of its life; returns when it is lost."""
        assert self._transport is not None and self._handler is not None
        lost = asyncio.Event()
        self.watch_loss(lost.set)
        held, self._held = self._held, None
        self._transport.write(head)
        self._successor = take(self._transport, held or b"")
        await lost.wait()


class HijackedStream:
    """Both directions of a hijacked connection, with flow control each way."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._eof = False
        self._lost = False
        self._reading_paused = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    async def read(self) -> bytes:
        """What has arrived; waits for something; b"" once the client has closed its direction."""
        while not self._chunks:
            if self._eof:
                return b""
            self._readable.clear()
            await self._readable.wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._reading_paused and not self._lost:
            self._reading_paused = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send; waits while the client does not read. Raises ConnectionResetError when it is gone."""
        if self._lost:
            raise ConnectionResetError("the client closed the connection")
        self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()

    def write_eof(self) -> None:
        """No more output; input goes on where the transport can do that."""
        if not self._lost and self._transport.can_write_eof():
            self._transport.write_eof()

    @property
    def lost(self) -> bool:
        """True when the client is gone altogether, which is more than end of input."""
        return self._lost

    def feed(self, data: bytes) -> None:
        """Called by the front door."""
        self._chunks.append(data)
        self._buffered += len(data)
        self._readable.set()
        if self._buffered > _HIGH_WATER and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def feed_eof(self) -> None:
        """Called by the front door."""
        self._eof = True
        self._readable.set()

    def pause_writing(self) -> None:
        """Called by the front door."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Called by the front door."""
        self._writable.set()

    def connection_lost(self) -> None:
        """Called by the front door."""
        self._lost = True
        self.feed_eof()
        self._writable.set()


class Hijacked(web.Response):
    """What a handler returns after a hijack: everything has been sent, aiohttp adds nothing and closes the connection."""

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None

    @property
    def prepared(self) -> bool:
        return True

    @property
    def keep_alive(self) -> bool:
        return False


def door_of(request: web.BaseRequest) -> FrontDoor:
    """The front door that a request came through."""
    assert request.transport is not None
    protocol = request.transport.get_protocol()
    assert isinstance(protocol, FrontDoor)
    return protocol
