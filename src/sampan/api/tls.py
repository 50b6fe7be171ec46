"""TLS whose two directions close independently.

asyncio's own TLS ends the whole connection when the client's close_notify arrives and drops what was still to be sent. Docker's CLI
sends close_notify as its half-close (`docker --tlsverify run -i … < file`) and then waits for the output. RFC 8446 §6.1 is on its
side: close_notify closes the sender's direction only. So the record layer is driven here, through `ssl.MemoryBIO`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

_CHUNK = 256 * 1024
_HANDSHAKE_SECONDS = 10.0


class TlsDoor(asyncio.Protocol):
    """Stands between a TCP transport and the protocol that speaks HTTP; the latter sees a transport of plain bytes."""

    def __init__(self, context: ssl.SSLContext, factory: Callable[[], asyncio.Protocol]) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._factory = factory
        self._transport: TlsTransport | None = None
        self._raw: asyncio.Transport | None = None
        self._eof = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._raw = transport
        # A client that never finishes its handshake must not hold a connection for ever.
        self._deadline = asyncio.get_running_loop().call_later(_HANDSHAKE_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if self._transport is None and not self._handshake():
                return
            self._deliver()
        except ssl.SSLError as error:
            log.debug("TLS: %s", error)
            self._flush()  # the alert that tells the client why
            self._abort()

    def _handshake(self) -> bool:
        """Go on with the handshake; True when it is complete and the protocol above has been made."""
        assert self._raw is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._flush()
        if self._deadline is not None:
            self._deadline.cancel()
        self._transport = TlsTransport(self, self._raw)
        protocol = self._factory()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        return True

    def _deliver(self) -> None:
        assert self._transport is not None
        while not self._eof:
            try:
                data = self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                self._end_of_input()
            else:
                self._transport.protocol.data_received(data)
        self._flush()  # answers of the record layer itself, such as key updates

    def _end_of_input(self) -> None:
        if self._eof or self._transport is None:
            return
        self._eof = True
        if not self._transport.protocol.eof_received():
            self._transport.close()

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; called by the transport."""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        self._flush()

    def send_close(self) -> None:
        """Our own close_notify: no more output. Idempotent."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # it wants the client's close_notify, which need not come
        self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and self._raw is not None and not self._raw.is_closing():
            self._raw.write(data)

    def _abort(self) -> None:
        if self._raw is not None:
            self._raw.close()

    def eof_received(self) -> bool:
        """The TCP connection was half-closed without close_notify: the same to those above."""
        if self._transport is None:
            return False
        self._end_of_input()
        return True

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._transport is not None:
            self._transport.protocol.connection_lost(exc)


class TlsTransport(asyncio.Transport):
    """The plain side of a `TlsDoor`, as the protocol above sees it."""

    def __init__(self, door: TlsDoor, raw: asyncio.Transport) -> None:
        super().__init__()
        self._door = door
        self._raw = raw
        self._protocol: asyncio.Protocol | None = None
        self._closed = False

    @property
    def protocol(self) -> asyncio.Protocol:
        """The protocol above, typed."""
        assert self._protocol is not None
        return self._protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sslcontext":
            return self._door._tls.context
        if name == "peercert":
            return self._door._tls.getpeercert()
        return self._raw.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closed:
            self._door.send(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._closed:
            self._closed = True
            self._door.send_close()

    def close(self) -> None:
        if not self._raw.is_closing():
            if not self._closed:
                self._closed = True
                self._door.send_close()
            self._raw.close()

    def abort(self) -> None:
        self._closed = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._raw.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)
