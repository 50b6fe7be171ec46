"""Questions about the rest of the world, passed on to real name servers.

One socket a question, on a random port and with a random id, so that an answer cannot be guessed by whoever did not see
the question. Truncated answers go back as they are: the client asks again over TCP, and so do we.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sampan.errors import SystemFailure

if TYPE_CHECKING:
    from sampan.dns.origin import HostOrigin, Origin

_PORT = 53
_TIMEOUT = 4.0
"""Seconds for one server, as dockerd waits."""

_TRIES = 3
"""How many servers of the list are asked."""


class Forwarder:
    """Asks upstream servers. `upstreams` gives the host's at the time of asking: resolv.conf may change."""

    MAX_WAITING = 1024
    """Questions under way at once, for all containers together: dockerd's bound."""

    def __init__(self, upstreams: Callable[[], Sequence[str]]) -> None:
        self._upstreams = upstreams
        self._places = asyncio.Semaphore(self.MAX_WAITING)

    async def ask(
        self, query: bytes, servers: Sequence[str], origin: Origin | HostOrigin, *, tcp: bool
    ) -> bytes | None:
        """The first server's answer to a packed query; None when none answered or too many wait already.

        A server that fails (SERVFAIL, REFUSED) is passed over for the next; the last one's failure is the answer.
        """
        if self._places.locked():
            return None
        answer: bytes | None = None
        async with self._places:
            for server in list(servers or self._upstreams())[:_TRIES]:
                found = await self._ask_one(query, server, origin, tcp)
                if found is None:
                    continue
                answer = query[:2] + found[2:]
                if found[3] & 0x0F not in (2, 5):
                    return answer
        return answer

    async def _ask_one(
        self, query: bytes, server: str, origin: Origin | HostOrigin, tcp: bool
    ) -> bytes | None:
        host, port = _split(server)
        identity = secrets.token_bytes(2)
        kind, ask = (socket.SOCK_STREAM, _ask_stream) if tcp else (socket.SOCK_DGRAM, _ask_datagram)
        try:
            async with asyncio.timeout(_TIMEOUT):
                found = await ask(identity + query[2:], await origin.open(host, port, kind), (host, port))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, SystemFailure):
            return None
        return found if len(found) >= 12 and found[:2] == identity else None


def _split(server: str) -> tuple[str, int]:
    """`192.0.2.1`, `fd00::1`, and with a port `192.0.2.1#5353`."""
    host, _, port = server.partition("#")
    return host, int(port or _PORT)


class _Answer(asyncio.DatagramProtocol):
    def __init__(self, identity: bytes) -> None:
        self._identity = identity
        self.found: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if data[:2] == self._identity and not self.found.done():
            self.found.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.found.done():
            self.found.set_exception(error)


async def _ask_datagram(query: bytes, connected: socket.socket, address: tuple[str, int]) -> bytes:
    loop = asyncio.get_running_loop()
    transport, answer = await loop.create_datagram_endpoint(lambda: _Answer(query[:2]), sock=connected)
    try:
        transport.sendto(query)
        return await answer.found
    finally:
        transport.close()


async def _ask_stream(query: bytes, made: socket.socket, address: tuple[str, int]) -> bytes:
    try:
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    reader, writer = await asyncio.open_connection(sock=made)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        await writer.drain()
        length = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(length)
    finally:
        writer.close()
