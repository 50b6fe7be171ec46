"""Published ports by hand: what the packet filter cannot lead to a container arrives at the reserved socket and is carried over.

That is: connections to ::1 (the kernel has no route_localnet for IPv6), IPv6 connections to a container that has IPv4 only, and
everything when the engine runs without a packet filter. On the engine's loop; bounded by back-pressure on each connection.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

_CHUNK = 1 << 16
_UDP_IDLE = 90.0
_UDP_CLIENTS = 1024


class Relay:
    """Carries what arrives at one reserved socket to one container's port."""

    def __init__(self, sock: socket.socket, target: tuple[str, int]) -> None:
        """The socket is duplicated: the reservation's owner closes its own."""
        self._socket = sock.dup()
        self._target = target
        self._datagram = sock.type == socket.SOCK_DGRAM
        self._server: asyncio.Server | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        if self._datagram:
            self._transport, _ = await loop.create_datagram_endpoint(
                lambda: _Front(self._target), sock=self._socket
            )
        else:
            self._server = await asyncio.start_server(self._carry, sock=self._socket, limit=_CHUNK)

    def stop(self) -> None:
        """End every connection and close the socket. Idempotent."""
        if self._transport is not None:
            self._transport.abort()
        if self._server is not None:
            self._server.close()
        self._socket.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            inner_reader, inner_writer = await asyncio.open_connection(*self._target, limit=_CHUNK)
        except OSError:
            self._writers.discard(writer)
            writer.transport.abort()
            return
        self._writers.add(inner_writer)
        try:
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        finally:
            for each in (writer, inner_writer):
                self._writers.discard(each)
                each.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, then pass the end on: the other direction may go on."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except ConnectionError:
        writer.transport.abort()


class _Front(asyncio.DatagramProtocol):
    """The published side: one socket towards the container for each client."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._transport: asyncio.DatagramTransport | None = None
        self._clients: dict[tuple[str, int], _Back] = {}
        self._starting: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        for back in tuple(self._clients.values()):
            back.close()

    def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
        back = self._clients.get(client)
        if back is None:
            if len(self._clients) >= _UDP_CLIENTS:
                return  # datagrams may be lost; memory may not
            back = self._clients[client] = _Back(self, client)
            task = asyncio.get_running_loop().create_task(self._open(back))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        back.send(data)

    async def _open(self, back: _Back) -> None:
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: back, remote_addr=self._target)
        except OSError:
            self.forget(back.client)

    def reply(self, client: tuple[str, int], data: bytes) -> None:
        """What the container answered."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, client)

    def forget(self, client: tuple[str, int]) -> None:
        """A client has been silent for long."""
        self._clients.pop(client, None)


class _Back(asyncio.DatagramProtocol):
    """The container's side, for one client; closes itself after 90 silent seconds."""

    def __init__(self, front: _Front, client: tuple[str, int]) -> None:
        self.client = client
        self._front = front
        self._transport: asyncio.DatagramTransport | None = None
        self._early: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def send(self, data: bytes) -> None:
        """Pass a datagram to the container."""
        if self._transport is None:
            self._early.append(data)
            return
        self._touch()
        self._transport.sendto(data)

    def close(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._front.forget(self.client)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = datagrams = cast(asyncio.DatagramTransport, transport)
        self._touch()
        for data in self._early:
            datagrams.sendto(data)
        self._early.clear()

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._touch()
        self._front.reply(self.client, data)

    def _touch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_UDP_IDLE, self.close)
