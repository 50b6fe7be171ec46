"""A connection whose bytes travel in the messages of a gRPC stream: how `Control.Session` carries a session's own HTTP/2."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

_HIGH, _LOW = 256 * 1024, 64 * 1024
_CHUNK = 32 * 1024


class Carrier(Protocol):
    """What the messages go through: a call's stream, or what looks like one."""

    async def send_message(self, message: Any, /) -> None: ...
    async def recv_message(self) -> Any:
        """None at the end."""
        ...


class TunnelTransport(asyncio.Transport):
    """The transport of whatever speaks inside. `run` moves bytes until either end closes."""

    def __init__(self, stream: Carrier, wrap: Callable[[bytes], Any]) -> None:
        """`wrap` makes a message of bytes; messages have them in `data`."""
        super().__init__()
        self._stream = stream
        self._wrap = wrap
        self._protocol: asyncio.Protocol | None = None
        self._pending = bytearray()
        self._wake = asyncio.Event()
        self._closing = False
        self._paused = False

    async def run(self, protocol: asyncio.Protocol) -> None:
        """Carry the protocol's bytes both ways; returns when either end has closed."""
        self._protocol = protocol
        sending = asyncio.create_task(self._send())
        receiving = asyncio.create_task(self._receive())
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._closing = True
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)
            protocol.connection_lost(None)

    async def _receive(self) -> None:
        assert self._protocol is not None
        while (message := await self._stream.recv_message()) is not None:
            self._protocol.data_received(message.data)

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                data = bytes(self._pending[:_CHUNK])
                del self._pending[:_CHUNK]
                await self._stream.send_message(self._wrap(data))
                self._resume()
            if self._closing:
                return

    def _resume(self) -> None:
        if self._paused and len(self._pending) <= _LOW and self._protocol is not None:
            self._paused = False
            self._protocol.resume_writing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        self._pending += data
        self._wake.set()
        if len(self._pending) > _HIGH and not self._paused and self._protocol is not None:
            self._paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    abort = close

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol
