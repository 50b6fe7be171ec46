"""A stream of fsutil's packets that come one at a time, as `sampan.buildkit.filesync.receive` reads them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from sampan.buildkit.protos.fsutil_pb2 import Packet


class Framed:
    """See the module."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def read(self) -> bytes:
        packet = await self._stream.recv_message()
        if packet is None:
            return b""
        data: bytes = packet.SerializeToString()
        return struct.pack(">?I", False, len(data)) + data

    async def write(self, messages: Iterable[bytes]) -> None:
        for each in messages:
            await self._stream.send_message(Packet.FromString(each))
