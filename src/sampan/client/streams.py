"""Streams of a container's output and input: Docker's framing, and both directions of an attach.

Without a tty the engine sends frames: a byte that names the stream (1 stdout, 2 stderr, 3 an error of the engine),
three zeros, the payload's length (big endian, four bytes), the payload. With a tty it sends raw bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.errors import SystemFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from sampan.client.http import Response

STDOUT, STDERR, SYSTEM_ERROR = 1, 2, 3
_HEADER = 8


class Demultiplexer:
    """Takes framed bytes in any pieces, gives (stream, payload) pairs as early as possible.

    >>> list(Demultiplexer().feed(bytes([1, 0, 0, 0, 0, 0, 0, 2]) + b"hi"))
    [(1, b'hi')]
    """

    def __init__(self) -> None:
        self._header = b""
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Raises SystemFailure when the engine reports an error in the stream."""
        while data:
            if not self._left:
                missing = _HEADER - len(self._header)
                self._header += data[:missing]
                data = data[missing:]
                if len(self._header) < _HEADER:
                    return
                self._stream = self._header[0]
                self._left = int.from_bytes(self._header[4:], "big")
                self._header = b""
                continue
            payload, data = data[: self._left], data[self._left :]
            self._left -= len(payload)
            if self._stream == SYSTEM_ERROR:
                raise SystemFailure("error from daemon in stream: " + payload.decode("utf-8", "replace"))
            yield (STDERR if self._stream == STDERR else STDOUT), payload


def demultiplex(blocks: Iterable[bytes], *, tty: bool) -> Iterator[tuple[int, bytes]]:
    """(stream, payload) pairs; everything of a tty is stdout."""
    if tty:
        for block in blocks:
            yield STDOUT, block
        return
    frames = Demultiplexer()
    for block in blocks:
        yield from frames.feed(block)


class RawStream:
    """A hijacked connection: what is written is the process's stdin, what is read is its output."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._connection = response.connection

    @property
    def is_raw(self) -> bool:
        """False when the engine said that its output is framed."""
        return "multiplexed" not in self._response.headers.get("content-type", "")

    def write(self, data: bytes) -> None:
        """Send input. Raises BrokenPipeError when the process is gone."""
        self._connection.wire.send(data)

    def close_write(self) -> None:
        """End of input; output still comes."""
        self._connection.wire.close_write()

    def blocks(self) -> Iterator[bytes]:
        """Output as it arrives, until the process's streams are closed."""
        if not self._response.upgraded:
            yield from self._response.blocks()
            return
        while block := self._connection.receive():
            yield block

    def frames(self, *, tty: bool) -> Iterator[tuple[int, bytes]]:
        """Output by stream."""
        return demultiplex(self.blocks(), tty=tty)

    def collect(self, *, tty: bool, input: bytes = b"") -> tuple[bytes, bytes]:
        """Send all of `input`, read to the end: (stdout, stderr)."""
        stdout, stderr = bytearray(), bytearray()
        sender = self._send_beside(input) if input else self.close_write
        sender()
        for stream, payload in self.frames(tty=tty):
            (stderr if stream == STDERR else stdout).extend(payload)
        return bytes(stdout), bytes(stderr)

    def _send_beside(self, input: bytes) -> Callable[[], None]:
        """Input from a thread: a process that answers while it reads would otherwise block both sides."""
        import threading

        def send() -> None:
            try:
                self.write(input)
                self.close_write()
            except OSError:
                pass  # the process ended without reading all of it

        return threading.Thread(target=send, daemon=True).start

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> RawStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
