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
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from sampan.buildkit.protos import fsutil_pb2
from sampan.buildkit.receiving import Item, Receiver
from sampan.engineapi import gomode
from sampan.errors import InvalidParameter, SampanError, SystemFailure, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from grpclib.client import Stream

T = TypeVar("T")
Packet = fsutil_pb2.Packet

_OUTSTANDING = 64
"""Files asked for at once. Few enough that asking never waits for a client that itself waits for us to read."""
_BATCH = 256
"""Packets that go to the thread together; of data 32 KiB each, as fsutil sends them."""

Sent = Callable[[int, int], None]


async def receive(stream: Stream[Any, Any], place: Path, sent: Sent, *, compare: bool = True) -> None:
    """Bring the directory to what the client sends. Raises `InvalidParameter`, `Unavailable`, `SystemFailure`; then it holds
    some of it, and the next transfer goes on from there."""
    # A thread of its own: what closes the descriptors comes behind what uses them, also when we are cancelled.
    with ThreadPoolExecutor(1, "filesync") as thread:
        transfer = _Transfer(stream, sent, thread)
        try:
            transfer.receiver = await transfer.in_thread(lambda: Receiver(place, compare=compare))
            try:
                await transfer.run()
            finally:
                thread.submit(transfer.receiver.close)
        except SampanError as error:
            await _tell(stream, error)
            raise
        except OSError as error:
            failure = SystemFailure(f"receiving files: {error.strerror}: {error.filename or place}")
            await _tell(stream, failure)
            raise failure from error


class _Transfer:
    receiver: Receiver

    def __init__(self, stream: Stream[Any, Any], sent: Sent, thread: Executor) -> None:
        self._stream = stream
        self._sent = sent
        self._thread = thread
        self._packets: asyncio.Queue[Packet | None] = asyncio.Queue(_BATCH)
        self._number = 0
        self._described = False
        self._asked = 0
        self._waiting: deque[int] = deque()
        self._fin_sent = False

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def run(self) -> None:
        reading = asyncio.create_task(self._read())
        try:
            while not await self._work_off(batch := await self._batch()):
                if batch[-1] is None:
                    await reading  # fails with what the client said
                    raise Unavailable("the client ended the transfer of its files before they were complete")
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (packet := await self._stream.recv_message()) is not None:
                await self._packets.put(packet)
        finally:
            await self._packets.put(None)

    async def _batch(self) -> list[Packet | None]:
        batch = [await self._packets.get()]
        while len(batch) < _BATCH and not self._packets.empty():
            batch.append(self._packets.get_nowait())
        return batch

    async def _work_off(self, batch: list[Packet | None]) -> bool:
        """Deal with what has come; True when the transfer is over."""
        over = await self.in_thread(lambda: self._handle([packet for packet in batch if packet is not None]))
        self._sent(self.receiver.files, self.receiver.bytes)
        if over:
            return True
        if batch[-1] is not None:
            await self._ask()
        return False

    async def _ask(self) -> None:
        while self._waiting and self._asked < _OUTSTANDING:
            self._asked += 1
            await self._stream.send_message(Packet(type=Packet.PACKET_REQ, ID=self._waiting.popleft()))
        if self._described and not self.receiver.pending and not self._fin_sent:
            await self.in_thread(self.receiver.finish)
            self._fin_sent = True
            await self._stream.send_message(Packet(type=Packet.PACKET_FIN))

    def _handle(self, packets: list[Packet]) -> bool:
        """In the thread."""
        for packet in packets:
            if packet.type == Packet.PACKET_STAT:
                self._describe(packet)
            elif packet.type == Packet.PACKET_DATA:
                self.receiver.data(packet.ID, packet.data)
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

    def _describe(self, packet: Packet) -> None:
        if self._described:
            raise InvalidParameter("a description came after the last one")
        if not packet.HasField("stat"):
            self.receiver.described()
            self._described = True
            return
        if self.receiver.describe(_item(packet.stat, self._number)):
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
        device=os.makedev(stat.devmajor, stat.devminor),
        xattrs=dict(stat.xattrs),
        number=number,
    )


async def _tell(stream: Stream[Any, Any], error: SampanError) -> None:
    """The client prints it, instead of a broken stream."""
    try:
        await stream.send_message(Packet(type=Packet.PACKET_ERR, data=str(error).encode()))
    except Exception:  # noqa: S110 - it is gone: the error itself is what counts
        pass
