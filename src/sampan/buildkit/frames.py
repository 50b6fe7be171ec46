"""Frames on one connection: a build and everything that is asked and sent for it, each in a stream with a number.

A frame is its kind (one letter), its stream's number, the length of its payload, and the payload. Stream 0 is the build
itself; every question of the engine's opens another. `sampan.client.frames` is the other end.

====== ================= ====================================================
kind   from              payload
====== ================= ====================================================
B      client, stream 0  what is to be built, as JSON
E      engine, stream 0  events of the build, a JSON list
R      engine, stream 0  how it ended, as JSON
Q      engine            a question, as JSON: it opens its stream
A      both              an answer, as JSON
D      both              data
Z      both              the end of the data
X      both              what went wrong instead, as text
====== ================= ====================================================
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sampan.errors import InvalidParameter, Unavailable

if TYPE_CHECKING:
    from sampan.api.frontdoor import HijackedStream

HEAD = struct.Struct(">cII")
_LONGEST = 16 << 20
_QUEUED = 8
"""Frames that wait for whoever reads a stream; then the connection is not read on."""

Frame = tuple[bytes, bytes]
"""Kind and payload."""


class Channel:
    """The engine's end of a connection. `begin`, then `read` in a task for as long as streams are used."""

    def __init__(self, stream: HijackedStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._inboxes: dict[int, asyncio.Queue[Frame]] = {}
        self._last = 0
        self._over = False

    async def begin(self) -> Any:
        """The client's first words. Raises `InvalidParameter`, `Unavailable`."""
        kind, number, payload = await self._frame()
        if (kind, number) != (b"B", 0):
            raise InvalidParameter("a build begins with what is to be built")
        return document(payload)

    async def read(self) -> None:
        """Give what comes to the streams that it is for, until the client is gone."""
        try:
            while True:
                kind, number, payload = await self._frame()
                inbox = self._inboxes.get(number)
                if inbox is not None:  # else it is over here, and the client did not know yet
                    await inbox.put((kind, payload))
        except Unavailable:
            pass
        finally:
            self._over = True
            for inbox in self._inboxes.values():
                if inbox.full():
                    inbox.get_nowait()
                inbox.put_nowait((b"X", b"the client is gone"))

    async def send(self, kind: bytes, number: int, payload: bytes) -> None:
        """Send a frame; waits while the client does not read. Raises `Unavailable`."""
        try:
            await self._stream.write(HEAD.pack(kind, number, len(payload)) + payload)
        except ConnectionResetError:
            raise Unavailable("the client is gone") from None

    def close(self) -> None:
        """As if the client had gone."""
        self._stream.feed_eof()

    @asynccontextmanager
    async def question(self, words: dict[str, Any]) -> AsyncIterator[Conversation]:
        """Ask the client something; the block talks about it."""
        if self._over:
            raise Unavailable("the client is gone")
        self._last += 1
        number = self._last
        inbox = self._inboxes[number] = asyncio.Queue(_QUEUED)
        try:
            await self.send(b"Q", number, json.dumps(words).encode())
            yield Conversation(self, number, inbox)
        finally:
            del self._inboxes[number]
            while not inbox.empty():  # a reader that waits to put something finds room
                inbox.get_nowait()

    async def _frame(self) -> tuple[bytes, int, bytes]:
        await self._fill(HEAD.size)
        kind, number, length = HEAD.unpack_from(self._buffer)
        if length > _LONGEST:
            raise Unavailable(f"a frame of {length} bytes")
        await self._fill(HEAD.size + length)
        payload = bytes(memoryview(self._buffer)[HEAD.size : HEAD.size + length])
        del self._buffer[: HEAD.size + length]
        return kind, number, payload

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            data = await self._stream.read()
            if not data:
                raise Unavailable("the client is gone")
            self._buffer += data


class Conversation:
    """One question's stream."""

    def __init__(self, channel: Channel, number: int, inbox: asyncio.Queue[Frame]) -> None:
        self._channel = channel
        self._number = number
        self._inbox = inbox

    async def frame(self) -> Frame:
        """The next frame. Raises `InvalidParameter` with what the client says that went wrong."""
        kind, payload = await self._inbox.get()
        if kind == b"X":
            raise InvalidParameter(payload.decode(errors="replace"))
        return kind, payload

    async def answer(self) -> dict[str, Any]:
        """The client's answer. Raises `InvalidParameter`."""
        kind, payload = await self.frame()
        found = document(payload) if kind == b"A" else None
        if not isinstance(found, dict):
            raise InvalidParameter("the client gave no answer")
        return found

    async def data(self) -> AsyncIterator[bytes]:
        """Data until its end."""
        while True:
            kind, payload = await self.frame()
            if kind == b"Z":
                return
            yield payload

    async def say(self, words: dict[str, Any]) -> None:
        """An answer of ours."""
        await self._channel.send(b"A", self._number, json.dumps(words).encode())

    async def send(self, data: bytes) -> None:
        """Some data."""
        await self._channel.send(b"D", self._number, data)

    async def end(self) -> None:
        """There is no more data."""
        await self._channel.send(b"Z", self._number, b"")


def document(payload: bytes) -> Any:
    """JSON. Names of files may hold bytes that are no text, which Python's own reader keeps. Raises `InvalidParameter`."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"the client sent no JSON: {error}") from None
