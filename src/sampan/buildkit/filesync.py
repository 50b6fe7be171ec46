"""fsutil's protocol over a stream: a directory comes as descriptions, then as the contents of those files that were asked for.

::

    sender                               receiver
    STAT a, STAT b/, STAT b/c …          compares with what is there
    STAT (without a description)         nothing more to describe
                       <- REQ 0, REQ 2   by their number among all descriptions
    DATA 0 …, DATA 0 (empty), DATA 2 …
                       <- FIN            all that was asked for is here
    FIN
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from google.protobuf.message import DecodeError

from sampan.buildkit.protos import fsutil_pb2
from sampan.buildkit.receiving import Item, Receiver
from sampan.engineapi import gomode
from sampan.errors import InvalidParameter, SampanError, SystemFailure, Unavailable
from sampan.grpc.bulk import Splitter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

T = TypeVar("T")
Packet = fsutil_pb2.Packet

_OUTSTANDING = 512
"""Files asked for at once. Few enough that asking never waits for a client that itself waits for us to read."""

Sent = Callable[[int, int], None]


class Packets(Protocol):
    """How they come and go, serialized: see `grpc.bulk.Bulk`."""

    async def read(self) -> bytes: ...
    async def write(self, messages: Iterable[bytes]) -> None: ...


async def receive(stream: Packets, place: Path, sent: Sent, *, compare: bool = True) -> bool:
    """Bring the directory to what the client sends; whether that changed anything in it.

    Raises `InvalidParameter`, `Unavailable`, `SystemFailure`; then it holds some of it, and the next transfer goes on from there.
    """
    transfer = _Transfer(stream, sent, place, compare)
    try:
        try:
            await transfer.run()
        finally:
            await asyncio.shield(transfer.end())
    except SampanError as error:
        await _tell(stream, error)
        raise
    except OSError as error:
        failure = SystemFailure(f"receiving files: {error.strerror}: {error.filename or place}")
        await _tell(stream, failure)
        raise failure from error
    return transfer.changed


class _Transfer:
    """What touches the disk is done in threads, one piece of work after the other."""

    def __init__(self, stream: Packets, sent: Sent, place: Path, compare: bool) -> None:
        self._stream = stream
        self._splitter = Splitter()
        self._sent = sent
        self._place = place
        self._compare = compare
        self._receiver: Receiver | None = None
        self._working: asyncio.Future[Any] | None = None
        self._number = 0
        self._described = False
        self._asked = 0
        self._waiting: deque[int] = deque()
        self._finished = False
        self._fin_sent = False
        self.changed = False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Who is cancelled leaves it working: `end` waits for it."""
        working = self._working = asyncio.get_running_loop().run_in_executor(None, work)
        return await asyncio.shield(working)

    async def run(self) -> None:
        """Until both sides have said that it is over."""
        receiver = await self._in_thread(self._open)
        while data := await self._stream.read():
            over = await self._in_thread(partial(self._work_off, receiver, data))
            self._sent(receiver.files, receiver.bytes)
            if over:
                return
            await self._ask()
        raise Unavailable("the client ended the transfer of its files before they were complete")

    def _open(self) -> Receiver:
        self._receiver = Receiver(
            self._place, compare=self._compare
        )  # known to `end` even when nobody waits any more
        return self._receiver

    async def end(self) -> None:
        """Let go of the directory, once nobody works in it."""
        if self._working is not None:
            await asyncio.wait({self._working})
            self._working.exception()  # seen
        if self._receiver is not None:
            self.changed = self._receiver.changed
            if not self._receiver.closed:
                await asyncio.to_thread(self._receiver.close)

    async def _ask(self) -> None:
        numbers = list(islice(self._waiting, max(0, _OUTSTANDING - self._asked)))
        if numbers:
            for _ in numbers:
                self._waiting.popleft()
            self._asked += len(numbers)
            await self._stream.write(
                Packet(type=Packet.PACKET_REQ, ID=number).SerializeToString() for number in numbers
            )
        if self._finished and not self._fin_sent:
            self._fin_sent = True
            await self._stream.write([Packet(type=Packet.PACKET_FIN).SerializeToString()])

    def _work_off(self, receiver: Receiver, data: bytes) -> bool:
        """Deal with what has come; True when the transfer is over. In a thread."""
        try:
            packets = [Packet.FromString(each) for each in self._splitter.messages(data)]
        except DecodeError as error:
            raise InvalidParameter(f"a packet of a client that sends files: {error}") from None
        over = self._handle(receiver, packets)
        if self._described and not receiver.pending and not self._finished:
            receiver.finish()
            self._finished = True
        if over:
            receiver.close()
        return over

    def _handle(self, receiver: Receiver, packets: list[Packet]) -> bool:
        for packet in packets:
            if packet.type == Packet.PACKET_STAT:
                self._describe(receiver, packet)
            elif packet.type == Packet.PACKET_DATA:
                receiver.data(packet.ID, packet.data)
                if not packet.data:
                    self._asked -= 1
            elif packet.type == Packet.PACKET_ERR:
                raise InvalidParameter(f"error from sender: {packet.data.decode(errors='replace')}")
            elif packet.type == Packet.PACKET_FIN:
                if not self._fin_sent:
                    raise InvalidParameter("the client ended the transfer unasked")
                return True
            else:
                raise InvalidParameter(f"a packet of type {packet.type} from a client that sends files")
        return False

    def _describe(self, receiver: Receiver, packet: Packet) -> None:
        if self._described:
            raise InvalidParameter("a description came after the last one")
        if not packet.HasField("stat"):
            receiver.described()
            self._described = True
            return
        if receiver.describe(_item(packet.stat, self._number)):
            self._waiting.append(self._number)
        self._number += 1


def _item(stat: fsutil_pb2.Stat, number: int) -> Item:
    try:
        mode = gomode.to_kernel(stat.mode)
    except ValueError as error:
        raise InvalidParameter(f"{stat.path}: {error}") from None
    return Item(
        path=stat.path,
        mode=mode,
        uid=stat.uid,
        gid=stat.gid,
        size=stat.size,
        mtime=stat.modTime,
        link=stat.linkname,
        device=os.makedev(stat.devmajor, stat.devminor) if stat.devmajor or stat.devminor else 0,
        xattrs=dict(stat.xattrs) if stat.xattrs else {},
        number=number,
    )


async def _tell(stream: Packets, error: SampanError) -> None:
    """The client prints it, instead of a broken stream."""
    try:
        await stream.write([Packet(type=Packet.PACKET_ERR, data=str(error).encode()).SerializeToString()])
    except Exception:  # noqa: S110 - it is gone: the error itself is what counts
        pass
