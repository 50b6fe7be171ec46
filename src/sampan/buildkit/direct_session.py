"""A client of Sampan's own as a build's session: what it is asked, over frames (`frames`).

It serves what BuildKit's sessions serve. A directory comes as one list of descriptions with a digest: when that is the digest of
what the place already holds, nothing else is sent at all.
"""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.buildkit import trees
from sampan.buildkit.agents import listening
from sampan.buildkit.clientstore import ClientSource
from sampan.buildkit.direct_store import DirectStore
from sampan.buildkit.frames import Channel, Conversation, document
from sampan.buildkit.receiving import Item, Receiver
from sampan.errors import InvalidParameter, SampanError, SystemFailure
from sampan.registry.credentials import Credentials
from sampan.solver.sessions import LocalFiles

if TYPE_CHECKING:
    from sampan.buildkit.trees import Files
    from sampan.ops.trees import Trees
    from sampan.solver.sessions import LocalRequest, Place, Sent

_PIECE = struct.Struct(">II")
_CHUNK = 1 << 20
_ASK_SECONDS = 30.0
_REMEMBERED = 256


class _Entry(msgspec.Struct, array_like=True):
    """A file as the client describes it."""

    path: str
    mode: int
    size: int
    mtime: int
    link: str = ""
    device: int = 0
    xattrs: dict[str, str] = {}
    """Values in base64."""


class Places:
    """What the directories of clients hold, by the digest of their descriptions: known for as long as the engine runs."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def holds(self, place: Path, digest: str) -> bool:
        """Whether it is exactly that."""
        return bool(digest) and self._known.get(place) == digest

    def forget(self, place: Path) -> None:
        """It is about to change."""
        self._known.pop(place, None)

    def note(self, place: Path, digest: str) -> None:
        """It has been brought to that."""
        self._known[place] = digest
        while len(self._known) > _REMEMBERED:
            self._known.pop(next(iter(self._known)))


class DirectSession:
    """`solver.sessions.Session`, and what exporters and frontends ask beside it (`buildkit.session.ClientSession`)."""

    def __init__(self, id: str, shared_key: str, channel: Channel, places: Places, trees: Trees) -> None:
        self.id = id
        self.shared_key = shared_key
        self._channel = channel
        self._places = places
        self._trees = trees

    def close(self) -> None:
        """End it, and the build with it."""
        self._channel.close()

    # -- what builds ask

    async def local(self, request: LocalRequest, place: Place, sent: Sent) -> LocalFiles:
        """See `Session`. Raises `InvalidParameter` with the client's words."""
        words = {
            "ask": "local",
            "name": request.name,
            "include": list(request.include),
            "exclude": list(request.exclude),
            "follow": list(request.follow),
        }
        async with self._channel.question(words) as talk:
            told = await talk.answer()
            digest = str(told.get("digest", ""))
            directory = await place()
            if self._places.holds(directory, digest):
                await talk.say({"send": False})
                return LocalFiles(directory, unchanged=True)
            self._places.forget(directory)
            await talk.say({"send": True})
            changed = await _receive(talk, directory, sent, compare=bool(told.get("compare", True)))
            self._places.note(directory, digest)
        return LocalFiles(directory, not changed)

    def content(self, store: str) -> DirectStore:
        """See `Client`."""
        return DirectStore(self._channel, store)

    def image(self, store: str, digest: str) -> ClientSource:
        """See `Session`."""
        return ClientSource(self.content(f"oci:{store}"), digest)

    async def secret(self, id: str) -> bytes | None:
        """See `Session`."""
        data = (await self._ask({"ask": "secret", "id": id})).get("data")
        return base64.b64decode(data) if isinstance(data, str) else None

    async def credentials(self, host: str) -> Credentials:
        """See `Session`."""
        told = await self._ask({"ask": "credentials", "host": host})
        return Credentials(
            username=str(told.get("username", "")),
            password=str(told.get("password", "")),
            identity_token=str(told.get("identity_token", "")),
        )

    @asynccontextmanager
    async def ssh(self, id: str, socket: Path) -> AsyncIterator[bool]:
        """See `Session`."""
        if not (await self._ask({"ask": "agent", "id": id})).get("has"):
            yield False
            return
        async with listening(socket, partial(self._forward, id)):
            yield True

    async def _forward(self, id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def copy_back(talk: Conversation) -> None:
            async for data in talk.data():
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

        try:
            async with self._channel.question({"ask": "ssh", "id": id}) as talk:
                answering = asyncio.create_task(copy_back(talk))
                try:
                    while data := await reader.read(_CHUNK):
                        await talk.send(data)
                    await talk.end()
                    await answering
                finally:
                    answering.cancel()
                    await asyncio.gather(answering, return_exceptions=True)
        except (SampanError, ConnectionError):
            pass  # the program in the build sees its connection end
        finally:
            writer.close()

    async def _ask(self, words: dict[str, Any]) -> dict[str, Any]:
        async with self._channel.question(words) as talk:
            return await asyncio.wait_for(talk.answer(), _ASK_SECONDS)

    # -- what builds give, and take from it

    async def send_directories(
        self, files: Sequence[Files], exporter: int = 0, mtime_ns: int | None = None
    ) -> None:
        """See `waiting.Client`: they go as one archive."""
        async with (
            self._channel.question({"ask": "directory", "exporter": exporter}) as talk,
            aclosing(trees.packed(self._trees, files, mtime_ns)) as chunks,
        ):
            await _give(talk, chunks)

    async def send_file(
        self, chunks: AsyncIterator[bytes], described: Mapping[str, str], exporter: int = 0
    ) -> None:
        """Give the client a file."""
        words = {"ask": "file", "exporter": exporter, "described": dict(described)}
        async with self._channel.question(words) as talk:
            await _give(talk, chunks)

    async def upload(self, url: str) -> AsyncIterator[bytes]:
        """The archive that the client has from its own standard input."""
        async with self._channel.question({"ask": "upload", "url": url}) as talk:
            async for data in talk.data():
                yield data


async def _give(talk: Conversation, chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        for start in range(0, len(chunk), _CHUNK):
            await talk.send(chunk[start : start + _CHUNK])
    await talk.end()
    await talk.answer()  # it is written


async def _receive(talk: Conversation, place: Path, sent: Sent, *, compare: bool) -> bool:
    """Bring the directory to what the client describes; whether that changed anything.

    Raises `InvalidParameter`, `SystemFailure`.
    """
    # A thread of its own: what closes the descriptors comes behind what uses them, also when we are cancelled.
    with ThreadPoolExecutor(1, "context") as thread:
        try:
            transfer = await _in(thread, lambda: _Transfer(place, compare=compare))
            try:
                async for batch in talk.data():
                    await _in(thread, partial(transfer.describe, batch))
                await _in(thread, transfer.receiver.described)
                await talk.say({"wanted": transfer.wanted})
                async for pieces in talk.data():
                    await _in(thread, partial(transfer.take, pieces))
                    sent(transfer.receiver.files, transfer.receiver.bytes)
                await _in(thread, transfer.finish)
                changed: bool = transfer.receiver.changed
                return changed
            finally:
                thread.submit(transfer.receiver.close)
        except OSError as error:
            raise SystemFailure(f"receiving files: {error.strerror}: {error.filename or place}") from error


async def _in(thread: ThreadPoolExecutor, work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(thread, work)


class _Transfer:
    """The half of it that touches the disk."""

    def __init__(self, place: Path, *, compare: bool) -> None:
        self.receiver = Receiver(place, compare=compare)
        self.wanted: list[int] = []
        self._number = 0

    def describe(self, batch: bytes) -> None:
        """Some descriptions."""
        try:
            entries = msgspec.convert(document(batch), list[_Entry])
        except msgspec.ValidationError as error:
            raise InvalidParameter(f"the client's description of files: {error}") from None
        for entry in entries:
            if self.receiver.describe(_item(entry, self._number)):
                self.wanted.append(self._number)
            self._number += 1

    def take(self, pieces: bytes) -> None:
        """Contents: each piece its file's number and length before it, and an empty one at a file's end."""
        at, view = 0, memoryview(pieces)
        while at < len(view):
            if at + _PIECE.size > len(view):
                raise InvalidParameter("a piece of a file that is cut off")
            number, length = _PIECE.unpack_from(view, at)
            at += _PIECE.size
            if at + length > len(view):
                raise InvalidParameter("a piece of a file that is cut off")
            self.receiver.data(number, view[at : at + length])
            at += length

    def finish(self) -> None:
        """Everything has come."""
        if self.receiver.pending:
            raise InvalidParameter("the client ended the transfer of its files before they were complete")
        self.receiver.finish()


def _item(entry: _Entry, number: int) -> Item:
    return Item(
        path=entry.path,
        mode=entry.mode,
        uid=0,
        gid=0,
        size=entry.size,
        mtime=entry.mtime,
        link=entry.link,
        device=entry.device,
        xattrs={name: base64.b64decode(value) for name, value in entry.xattrs.items()},
        number=number,
    )
