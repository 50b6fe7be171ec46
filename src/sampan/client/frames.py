"""Frames on one connection, the client's end: see `sampan.buildkit.frames` for what they are."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from sampan.errors import SystemFailure, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.client.streams import RawStream

_HEAD = struct.Struct(">cII")


class Channel:
    """Sending is for any thread, reading for one."""

    def __init__(self, stream: RawStream) -> None:
        import threading

        self._stream = stream
        self._lock = threading.Lock()
        self._buffer = bytearray()

    def send(self, kind: bytes, number: int, payload: bytes) -> None:
        """Raises Unavailable when the engine is gone."""
        head = _HEAD.pack(kind, number, len(payload))
        try:
            with self._lock:
                if len(payload) < 1 << 16:
                    self._stream.write(head + payload)
                else:
                    self._stream.write(head)
                    self._stream.write(payload)
        except OSError:
            raise Unavailable("the engine closed the connection") from None

    def frames(self) -> Iterator[tuple[bytes, int, bytes]]:
        """(kind, stream, payload) until the engine ends the connection."""
        buffer = self._buffer
        for block in self._stream.blocks():
            buffer += block
            while len(buffer) >= _HEAD.size:
                kind, number, length = _HEAD.unpack_from(buffer)
                if len(buffer) < _HEAD.size + length:
                    break
                payload = bytes(memoryview(buffer)[_HEAD.size : _HEAD.size + length])
                del buffer[: _HEAD.size + length]
                yield kind, number, payload

    def close(self) -> None:
        """End it: whoever reads sees the end."""
        self._stream.close()


class Conversation:
    """One question of the engine's, answered in a thread of its own."""

    def __init__(self, channel: Channel, number: int) -> None:
        import queue

        self._channel = channel
        self._number = number
        self.inbox: queue.SimpleQueue[tuple[bytes, bytes]] = queue.SimpleQueue()

    def say(self, words: dict[str, Any]) -> None:
        """Answer."""
        self._channel.send(b"A", self._number, json.dumps(words).encode())

    def send(self, data: bytes) -> None:
        """Some data."""
        self._channel.send(b"D", self._number, data)

    def end(self) -> None:
        """There is no more data."""
        self._channel.send(b"Z", self._number, b"")

    def fail(self, reason: str) -> None:
        """Say what went wrong instead."""
        self._channel.send(b"X", self._number, reason.encode(errors="replace"))

    def answer(self) -> dict[str, Any]:
        """What the engine says to it. Raises SystemFailure when it says anything else."""
        kind, payload = self.inbox.get()
        if kind != b"A":
            raise SystemFailure("the engine gave up what it had asked for")
        words: dict[str, Any] = json.loads(payload)
        return words

    def read_block(self) -> bytes:
        """The next piece of what the engine sends; b"" at its end."""
        kind, payload = self.inbox.get()
        if kind == b"D":
            return payload
        if kind == b"Z":
            return b""
        raise SystemFailure("the engine ended a transfer before it was complete")

    def close(self) -> None:
        """Nothing is left open: the connection is the build's."""
