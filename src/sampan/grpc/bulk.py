"""Many small messages of one call at a time: a directory of twenty thousand files is eighty thousand of them.

grpclib takes each apart by itself, with some turns of the loop and an acknowledgement for each. Here what has come is one piece,
and messages are split off it wherever the caller likes, in a thread for instance.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from grpclib.client import Stream

from sampan.errors import InvalidParameter

_HEAD = struct.Struct(">?I")
_LARGEST = 16 << 20
"""Bytes of one message."""


class Bulk:
    """A call whose messages are read here, and none of them with `recv_message`."""

    def __init__(self, stream: Stream[Any, Any]) -> None:
        self._stream = stream

    async def read(self) -> bytes:
        """All that has come and was not read; waits for some. Empty at the end of the other side."""
        if self._stream.initial_metadata is None:
            await self._stream.recv_initial_metadata()
        buffer = self._stream._stream.buffer
        with self._stream._wrapper:
            came = [await buffer._unacked.get()]
            while not buffer._unacked.empty():
                came.append(buffer._unacked.get_nowait())
            buffer._ack_callback(sum(each.ack_size for each in came))
        if not came[-1].ack_size:
            buffer.eof()  # said once; who reads on is told again
        return b"".join(each.data for each in came)

    async def write(self, messages: Iterable[bytes]) -> None:
        """Send messages, serialized, as few frames."""
        data = b"".join(part for each in messages for part in (_HEAD.pack(False, len(each)), each))
        with self._stream._wrapper:
            await self._stream._stream.send_data(data)


class Splitter:
    """Bytes of a call as messages."""

    def __init__(self) -> None:
        self._rest = b""

    def messages(self, data: bytes) -> list[bytes]:
        """Those that are complete now. Raises `InvalidParameter` for what no message begins with."""
        data = self._rest + data
        at, found = 0, []
        while at + _HEAD.size <= len(data):
            compressed, length = _HEAD.unpack_from(data, at)
            if compressed or length > _LARGEST:
                raise InvalidParameter("a message that is compressed or too long")
            end = at + _HEAD.size + length
            if end > len(data):
                break
            found.append(data[at + _HEAD.size : end])
            at = end
        self._rest = data[at:]
        return found
