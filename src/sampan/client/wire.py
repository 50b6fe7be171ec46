"""Byte streams to an engine: unix socket, TCP, TLS; each with a half-close.

Docker's attach protocol ends input by closing one direction while output still flows. A TCP or unix socket does
that with `shutdown`; TLS does it with a close_notify, which `ssl.SSLSocket` can only send while it waits for the
peer's. Hence the TLS stream here drives OpenSSL through memory buffers and owns the socket itself.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

from sampan.errors import Unavailable

if TYPE_CHECKING:
    import ssl

    from sampan.client.endpoint import Endpoint, TlsFiles

BLOCK = 65536


class Wire(Protocol):
    """A connected byte stream. One thread may read while another writes."""

    def send(self, data: bytes) -> None: ...
    def receive(self) -> bytes:
        """Next bytes; b"" at the end of the stream."""
        ...

    def close_write(self) -> None:
        """Tell the peer that nothing more will be sent; reading goes on."""
        ...

    def is_stale(self) -> bool:
        """True when an idle connection has been closed by the peer."""
        ...

    def close(self) -> None: ...


class PlainWire:
    """A socket as it is."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> bytes:
        return self._socket.recv(BLOCK)

    def close_write(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer was faster

    def is_stale(self) -> bool:
        return _readable(self._socket)

    def close(self) -> None:
        _hang_up(self._socket)


class TlsWire:
    """TLS over a socket, with a half-close."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        import ssl
        import threading

        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._want_read = ssl.SSLWantReadError
        self._end = (ssl.SSLZeroReturnError, ssl.SSLEOFError)
        self._lock = threading.Lock()  # guards OpenSSL's state and the order of records on the wire
        self._clear = bytearray()  # decrypted while closing the other direction
        while True:
            try:
                self._tls.do_handshake()
                break
            except self._want_read:
                self._flush()
                self._feed(self._socket.recv(BLOCK))
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._socket.sendall(self._outgoing.read())

    def _feed(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def send(self, data: bytes) -> None:
        with self._lock:
            view = memoryview(data)
            while view:
                view = view[self._tls.write(view) :]
            self._flush()

    def _decrypt(self) -> bytes | None:
        """What OpenSSL can decrypt now; None when it needs more from the socket."""
        try:
            data = self._tls.read(BLOCK)
        except self._want_read:
            return None
        except self._end:
            return b""
        finally:
            self._flush()
        return data

    def receive(self) -> bytes:
        while True:
            with self._lock:
                if self._clear:
                    data = bytes(self._clear)
                    self._clear.clear()
                    return data
                decrypted = self._decrypt()
            if decrypted is not None:
                return decrypted
            data = self._socket.recv(BLOCK)
            with self._lock:
                self._feed(data)

    def close_write(self) -> None:
        with self._lock:
            # OpenSSL refuses to shut down over data that it has not handed out yet.
            while block := self._decrypt():
                self._clear += block
            try:
                self._tls.unwrap()
            except (self._want_read, *self._end, OSError):
                pass
            try:
                self._flush()
            except OSError:
                pass

    def is_stale(self) -> bool:
        return bool(self._incoming.pending) or _readable(self._socket)

    def close(self) -> None:
        _hang_up(self._socket)


def _readable(sock: socket.socket) -> bool:
    import select

    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _hang_up(sock: socket.socket) -> None:
    """Close so that a thread that is blocked in recv wakes up."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()


def open_wire(endpoint: Endpoint) -> Wire:
    """Connect. Raises Unavailable, in Docker's words, when nobody answers there."""
    try:
        if endpoint.socket_path:
            sock = _unix(endpoint.socket_path)
        else:
            sock = socket.create_connection(endpoint.address, timeout=30)
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except PermissionError as error:
        raise Unavailable(
            "permission denied while trying to connect to the Docker daemon socket at "
            f"{endpoint.url}: {error.strerror}; run as root or as a member of the socket's group"
        ) from error
    except OSError as error:
        raise Unavailable(
            f"Cannot connect to the Docker daemon at {endpoint.url}. Is the docker daemon running?"
        ) from error
    if endpoint.tls is None:
        return PlainWire(sock)
    try:
        return TlsWire(sock, tls_context(endpoint.tls), endpoint.address[0])
    except OSError as error:  # ssl.SSLError is one
        sock.close()
        raise Unavailable(f"error during connect to {endpoint.url}: {error}") from error


def _unix(path: str) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise Unavailable(
            f"unix:{path}: this system has no unix sockets, and containers need Linux: "
            "point sampan at an engine elsewhere (-H tcp://HOST:2376 or DOCKER_HOST)"
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """A client context from Docker's three PEM files."""
    import ssl

    context = ssl.create_default_context(cafile=files.ca or None)
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.cert:
        context.load_cert_chain(files.cert, files.key or None)
    return context
