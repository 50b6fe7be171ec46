"""HTTP/1.1, as much as an Engine API client needs.

`http.client` would cost 20 ms of imports on every command line and knows neither unix sockets nor connections that
turn into raw streams. This is the request line, headers, the three ways a body can end, and the upgrade.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sampan.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sampan.client.wire import Wire

_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_MAX_HEAD = 1 << 20


def quote(text: str, keep: str = "") -> str:
    """Percent-encode for a path or a query.

    >>> quote("a b/c", keep="/")
    'a%20b/c'
    """
    safe = _SAFE | frozenset(keep.encode())
    return "".join(chr(byte) if byte in safe else f"%{byte:02X}" for byte in text.encode())


class Connection:
    """One connection and the bytes that were read ahead of what was asked for."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._buffer = b""

    def request(
        self, method: str, target: str, headers: dict[str, str], body: bytes | Iterable[bytes] | None
    ) -> Response:
        """Send a request and read the response's head. An iterable body is sent chunked."""
        lines = [f"{method} {target} HTTP/1.1", "Host: docker", "User-Agent: Sampan-Client"]
        payload = b""
        if isinstance(body, bytes):
            payload = body
            lines.append(f"Content-Length: {len(body)}")
        elif body is not None:
            lines.append("Transfer-Encoding: chunked")
        elif method in ("POST", "PUT"):
            lines.append("Content-Length: 0")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        try:
            self.wire.send(head + payload)
            if body is not None and not isinstance(body, bytes):
                self._send_chunks(body)
        except (BrokenPipeError, ConnectionResetError):
            # The engine may have answered before it hung up: an error about the body it refused.
            pass
        return self._read_head(method)

    def _send_chunks(self, blocks: Iterable[bytes]) -> None:
        for block in blocks:
            if block:
                self.wire.send(b"%x\r\n%b\r\n" % (len(block), block))
        self.wire.send(b"0\r\n\r\n")

    def _read_head(self, method: str) -> Response:
        while b"\r\n\r\n" not in self._buffer:
            data = self.receive_raw()
            if not data or len(self._buffer) > _MAX_HEAD:
                raise Unavailable("the engine closed the connection without an answer") from EOFError()
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status_line, *fields = head.decode("latin-1").split("\r\n")
        parts = status_line.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdecimal():
            raise Unavailable(f"no HTTP answer: {status_line[:80]!r}")
        headers = {}
        for field in fields:
            name, _, value = field.partition(":")
            headers[name.strip().lower()] = value.strip()
        status = int(parts[1])
        if status == 100:
            return self._read_head(method)
        return Response(self, method, status, headers)

    def receive_raw(self) -> bytes:
        """Bytes from the wire, past the read-ahead; a reset counts as the end."""
        try:
            return self.wire.receive()
        except ConnectionResetError:
            return b""

    def receive(self) -> bytes:
        """Next bytes, read-ahead first; b"" at the end."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        return self.receive_raw()

    def take(self, size: int) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        data = self.receive()
        if len(data) > size:
            data, self._buffer = data[:size], data[size:]
        return data

    def line(self) -> bytes:
        """A line without its CRLF. Raises Unavailable when the stream ends within it."""
        while b"\n" not in self._buffer:
            data = self.receive_raw()
            if not data:
                raise Unavailable("the engine closed the connection in the middle of an answer")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def close(self) -> None:
        self.wire.close()


class Response:
    """An answer's head, and its body as it arrives.

    Read it to its end or `close` it. When it was read to its end, the connection goes back to where it came from.
    """

    def __init__(self, connection: Connection, method: str, status: int, headers: dict[str, str]) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers
        """Names in lower case."""
        self.on_finish: Callable[[Connection], None] | None = None
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        self._left = int(length) if length is not None and not self._chunked else -1
        if method == "HEAD" or status in (204, 304):
            self._chunked, self._left = False, 0
        self._chunk = 0
        self._done = self._left == 0
        self._finished = False

    @property
    def upgraded(self) -> bool:
        """True when the connection is a raw stream from here on."""
        return self.status == 101

    def blocks(self) -> Iterator[bytes]:
        """The body, in the pieces in which it arrives."""
        while block := self.read_block():
            yield block

    def read_block(self) -> bytes:
        """The next piece of the body; b"" at its end. Raises Unavailable when it is cut short."""
        if self._done:
            self._finish()
            return b""
        if self._chunked:
            return self._read_chunk()
        if self._left < 0:
            data = self.connection.receive()
            if not data:
                self.close()
            return data
        data = self.connection.take(self._left)
        if not data:
            self.close()
            raise Unavailable(f"the engine's answer was cut short: {self._left} bytes are missing")
        self._left -= len(data)
        self._done = self._left == 0
        return data

    def _read_chunk(self) -> bytes:
        if not self._chunk:
            size = self.connection.line().split(b";")[0]
            try:
                self._chunk = int(size, 16)
            except ValueError:
                raise Unavailable(f"malformed chunk in the engine's answer: {size[:20]!r}") from None
            if not self._chunk:
                while self.connection.line():
                    pass
                self._done = True
                self._finish()
                return b""
        data = self.connection.take(self._chunk)
        if not data:
            self.close()
            raise Unavailable("the engine's answer was cut short")
        self._chunk -= len(data)
        if not self._chunk:
            self.connection.line()
        return data

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.blocks())

    def json(self) -> Any:
        """The whole body as JSON; None when it is empty."""
        body = self.read()
        return json.loads(body) if body.strip() else None

    def json_stream(self) -> Iterator[Any]:
        """The JSON values of a streamed body, each as soon as it is complete."""
        decoder = json.JSONDecoder()
        pending = ""
        undecoded = b""
        for block in self.blocks():
            undecoded += block
            try:
                text, undecoded = undecoded.decode(), b""
            except UnicodeDecodeError as error:
                text, undecoded = undecoded[: error.start].decode(), undecoded[error.start :]
            pending = (pending + text).lstrip()
            while pending:
                try:
                    value, end = decoder.raw_decode(pending)
                except ValueError:
                    break  # incomplete as yet
                yield value
                pending = pending[end:].lstrip()

    def _finish(self) -> None:
        self._finished = True
        callback, self.on_finish = self.on_finish, None
        if callback is not None:
            if self.headers.get("connection", "").lower() == "close":
                self.connection.close()
            else:
                callback(self.connection)

    def close(self) -> None:
        """Give up the rest of the body: the engine sees the connection end. Does nothing after the body's end."""
        if self._finished:
            return
        self._done = self._finished = True
        self.on_finish = None
        self.connection.close()
