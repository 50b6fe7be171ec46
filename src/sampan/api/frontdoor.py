"""The front door: the protocol of every accepted connection, before and beside HTTP.

It looks at the first bytes: an HTTP/2 preface is handed to whoever serves gRPC, everything else goes to aiohttp. It stays the
transport's protocol for the connection's life, because aiohttp cannot do what Docker's attach and exec need: after an upgrade the
connection is a plain byte stream whose two directions close independently, and the first input may sit in the very segment that
held the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HIGH_WATER = 256 * 1024


class Http2Door(Protocol):
    """Takes over a connection that speaks HTTP/2 (the builder's gRPC). `received` are the bytes read so far."""

    def __call__(self, transport: asyncio.Transport, received: bytes) -> asyncio.Protocol: ...


class FrontDoor(asyncio.Protocol):
    """One connection. See the module."""

    def __init__(self, http: web.Server, http2: Http2Door | None) -> None:
        self._http = http
        self._http2 = http2
        self._handler: RequestHandler | None = None
        self._transport: asyncio.Transport | None = None
        self._first = b""
        self._hijacked: HijackedStream | None = None
        self._on_lost: set[Callable[[], object]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._hijacked is not None:
            self._hijacked.feed(data)
        elif self._handler is not None:
            self._handler.data_received(data)
        else:
            self._choose(self._first + data)

    def _choose(self, received: bytes) -> None:
        """HTTP/1 or HTTP/2, as soon as the first bytes tell them apart."""
        assert self._transport is not None
        if received.startswith(HTTP2_PREFACE) and self._http2 is not None:
            self._transport.set_protocol(self._http2(self._transport, received))
        elif self._http2 is not None and HTTP2_PREFACE.startswith(received):
            self._first = received
        else:
            self._first = b""
            self._handler = self._http()
            self._handler.connection_made(self._transport)
            self._handler.data_received(received)

    def eof_received(self) -> bool:
        """True keeps the transport open: a client that has no more input still wants the output."""
        if self._hijacked is not None:
            self._hijacked.feed_eof()
            return True
        return False

    def pause_writing(self) -> None:
        if self._hijacked is not None:
            self._hijacked.pause_writing()
        elif self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        if self._hijacked is not None:
            self._hijacked.resume_writing()
        elif self._handler is not None:
            self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._hijacked is not None:
            self._hijacked.connection_lost()
        if self._handler is not None:
            self._handler.connection_lost(exc)
        for callback in tuple(self._on_lost):
            callback()

    def watch_loss(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back when the client is gone; returns the function that takes the wish back."""
        self._on_lost.add(callback)
        return lambda: self._on_lost.discard(callback)

    def hijack(self) -> HijackedStream:
        """Take the connection away from HTTP, with every byte that came behind the request."""
        assert self._transport is not None and self._handler is not None
        # aiohttp has no public name for the bytes behind an upgrade request; tests/unit/api/test_frontdoor.py pins this one.
        tail = bytes(self._handler._message_tail)
        self._handler._message_tail = b""
        self._hijacked = HijackedStream(self._transport)
        self._transport.resume_reading()
        if tail:
            self._hijacked.feed(tail)
        return self._hijacked


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
