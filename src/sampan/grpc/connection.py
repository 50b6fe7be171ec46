"""HTTP/2 on one transport that somebody else opened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from grpclib.config import Configuration
from grpclib.protocol import EventsProcessor, H2Protocol
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from hpack import Encoder

if TYPE_CHECKING:
    from grpclib.protocol import AbstractHandler
    from h2.events import Event, StreamReset

_GATHERED_MOST = 64 * 1024
"""Bytes that wait for the end of the loop's turn."""

log = logging.getLogger(__name__)
for _library in ("grpclib", "h2", "hpack"):
    logging.getLogger(_library).setLevel(
        logging.WARNING
    )  # hpack tells each header, values and all, when asked to debug


class _Events(EventsProcessor):
    def process(self, event: Event) -> None:
        try:
            super().process(event)
        except NotImplementedError:
            log.debug("an HTTP/2 event that means nothing here: %s", event)

    def process_stream_reset(self, event: StreamReset) -> None:
        """A server that has answered in full before the request ended says so with NO_ERROR (RFC 9113 §8.1): no failure."""
        stream = self.streams.get(event.stream_id)
        if event.error_code == ErrorCodes.NO_ERROR and stream is not None and stream.trailers is not None:
            return
        super().process_stream_reset(event)


class _PlainEncoder(Encoder):
    """Without Huffman's code: hpack's takes time that grows with the square of a value, and an error's details are long."""

    def encode(self, headers: Any, huffman: bool = False) -> bytes:
        return super().encode(headers, huffman=False)


class _Gathering(asyncio.Transport):
    """Writes what one turn of the loop has to say at once: a call's headers, message and end are three writes of grpclib's, and
    each is a system call here and a wake-up at the other end."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._gathered = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._flush)
        self._gathered += data
        if len(self._gathered) >= _GATHERED_MOST:
            self._flush()  # so that the transport can say when there is too much

    def _flush(self) -> None:
        if self._gathered:
            self._transport.write(bytes(self._gathered))
            self._gathered.clear()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._gathered.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


class Http2Connection(H2Protocol):
    """Give it a transport with `take`; `lost` is set, and `on_lost` called, when the transport is gone."""

    def __init__(self, handler: AbstractHandler, *, client_side: bool, on_lost: Callable[[], None]) -> None:
        configuration = Configuration()
        super().__init__(
            handler,
            configuration.__for_client__() if client_side else configuration.__for_server__(),
            H2Configuration(
                client_side=client_side,
                header_encoding="ascii",
                validate_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_inbound_headers=False,
                normalize_outbound_headers=False,
            ),
        )
        self.lost = asyncio.Event()
        self._on_lost = on_lost

    def take(self, transport: asyncio.Transport, received: bytes = b"") -> None:
        """Begin on an open transport; `received` was read from it before."""
        self.connection_made(transport)
        if received:
            self.data_received(received)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(_Gathering(transport))
        self.connection._connection.encoder = _PlainEncoder()
        self.processor = _Events(self.handler, self.connection)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except (
            Exception
        ) as error:  # whatever a peer can send: it loses its connection, and nobody else theirs
            log.debug("HTTP/2: %s: %s", type(error).__name__, error)
            self.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.lost.set()
        self._on_lost()

    def close(self) -> None:
        """End it, with every call on it."""
        self.processor.close("the connection was closed")
