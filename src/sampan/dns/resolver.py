"""The resolver that containers of user-defined networks find at 127.0.0.11.

Its sockets live in the container's namespace, on random ports of 127.0.0.11, and rules inside the namespace lead port 53
there: binding port 53 itself would take it from a container that serves DNS on 0.0.0.0. The engine's loop answers. Names
of containers come from the `Directory`; everything else is forwarded.

A container is hostile: what cannot be parsed is dropped or answered FORMERR, connections and waiting queries are bounded.

Source: RFC 1035, RFC 7766 (TCP), and dockerd's behaviour for TTL (600 s) and for AAAA of IPv4-only names (empty NOERROR).
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from dnslib import AAAA, CLASS, EDNS0, PTR, QTYPE, RCODE, RR, A, DNSError, DNSHeader, DNSRecord

from sampan.dns.directory import Address, Directory
from sampan.dns.forwarder import Forwarder
from sampan.dns.origin import HostOrigin, Origin
from sampan.dns.sockets import ResolverSockets

TTL = 600
_UDP_SIZE = 512
"""What a datagram may hold when the query says nothing."""
_LARGEST_UDP_SIZE = 4096
_IDLE_TIMEOUT = 30.0
_MAX_CONNECTIONS = 64


@dataclass(slots=True)
class View:
    """What one container sees. Change it in place when the container is connected elsewhere."""

    container: str
    networks: list[str]
    """Ids of its user-defined networks, in the order of preference."""
    upstreams: list[str]
    """Servers of this container's own (`--dns`); empty: the host's."""
    forward: bool = True
    """False on internal networks only: the host's servers are not asked for it."""
    ndots_set: bool = False
    """The user chose ndots: single labels are left to the client's search list."""
    origin: Origin | HostOrigin = field(default_factory=HostOrigin)
    """From where its servers are asked; closed with it."""


class Resolver:
    """Answers all containers' queries."""

    def __init__(self, directory: Directory, forwarder: Forwarder) -> None:
        self._directory = directory
        self._forwarder = forwarder
        self._served: dict[str, _Served] = {}

    async def serve(self, view: View, sockets: ResolverSockets) -> None:
        """Begin to answer a container's queries; takes over the sockets. A view that was served before is replaced."""
        self.stop(view.container)
        served = _Served([sock.fileno() for sock in sockets])
        self._served[view.container] = served
        loop = asyncio.get_running_loop()
        answer = _Answering(self, view)
        served.transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(answer), sock=sockets.udp
        )
        served.server = await asyncio.start_server(
            lambda reader, writer: _serve_stream(answer, served, reader, writer), sock=sockets.tcp
        )

    def view(self, container: str) -> View | None:
        """The view of a container that is being served."""
        served = self._served.get(container)
        return served.view if served else None

    def sockets(self, container: str) -> list[int]:
        """Descriptors of a container's two sockets, which stay ours; empty for one that is not served."""
        served = self._served.get(container)
        return list(served.descriptors) if served else []

    def stop(self, container: str) -> None:
        """Stop answering a container and close its sockets. Idempotent."""
        served = self._served.pop(container, None)
        if served is not None:
            served.close()

    def close(self) -> None:
        """Stop answering anybody."""
        for container in list(self._served):
            self.stop(container)

    async def answer(self, view: View, data: bytes, *, tcp: bool) -> bytes | None:
        """The answer to one message; None for what deserves none."""
        try:
            query = DNSRecord.parse(data)
        except (DNSError, ValueError, IndexError, UnicodeError):
            return _format_error(data)
        if query.header.qr or len(query.questions) != 1:
            return _format_error(data)
        reply = self._local(view, query)
        if reply is not None:
            return bytes(reply.pack()) if tcp else _datagram(reply, query)
        name = str(query.q.qname).rstrip(".")
        if view.ndots_set and "." not in name:
            return bytes(_reply(query, RCODE.NOERROR).pack())
        if view.forward or view.origin.own_servers:
            forwarded = await self._forwarder.ask(data, view.upstreams, view.origin, tcp=tcp)
            if forwarded is not None:
                return forwarded
        return bytes(_reply(query, RCODE.SERVFAIL).pack())

    def _local(self, view: View, query: DNSRecord) -> DNSRecord | None:
        """The answer that the directory has; None to ask elsewhere."""
        question = query.q
        if question.qclass != CLASS.IN:
            return None
        name = str(question.qname).rstrip(".")
        if question.qtype == QTYPE.PTR:
            address = _reversed_address(name)
            owner = None if address is None else self._directory.reverse(view.networks, address)
            if owner is None:
                return None
            reply = _reply(query, RCODE.NOERROR)
            reply.add_answer(RR(question.qname, QTYPE.PTR, ttl=TTL, rdata=PTR(owner)))
            return reply
        addresses = self._directory.lookup(view.container, view.networks, name)
        if addresses is None:
            return None
        reply = _reply(query, RCODE.NOERROR)
        for record in _records(question.qtype, addresses):
            reply.add_answer(RR(question.qname, question.qtype, ttl=TTL, rdata=record))
        return reply


class _Served:
    """The open sockets of one container."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self.descriptors = descriptors
        self.transport: asyncio.DatagramTransport | None = None
        self.server: asyncio.Server | None = None
        self.view: View | None = None
        self.writers: set[asyncio.StreamWriter] = set()

    def close(self) -> None:
        if self.view is not None:
            self.view.origin.close()
        if self.transport is not None:
            self.transport.abort()
        if self.server is not None:
            self.server.close()
        for writer in tuple(self.writers):
            writer.transport.abort()


class _Answering:
    """A view and the resolver that answers for it."""

    def __init__(self, resolver: Resolver, view: View) -> None:
        self.resolver = resolver
        self.view = view
        served = resolver._served[view.container]
        served.view = view
        self.tasks: set[asyncio.Task[None]] = set()

    def later(self, data: bytes, send: Callable[[bytes], None]) -> None:
        """Answer without making the caller wait. Beyond the forwarder's bound queries are dropped, as a full server does."""
        if len(self.tasks) >= Forwarder.MAX_WAITING:
            return
        task = asyncio.get_running_loop().create_task(self._answer(data, send))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, data: bytes, send: Callable[[bytes], None]) -> None:
        reply = await self.resolver.answer(self.view, data, tcp=False)
        if reply is not None:
            send(reply)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answering: _Answering) -> None:
        self._answering = answering
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        def send(reply: bytes) -> None:
            if self._transport is not None and not self._transport.is_closing():
                self._transport.sendto(reply, address)

        self._answering.later(data, send)


async def _serve_stream(
    answering: _Answering, served: _Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One TCP connection: queries with a length in front, answered in order."""
    if len(served.writers) >= _MAX_CONNECTIONS:
        writer.transport.abort()
        return
    served.writers.add(writer)
    try:
        while True:
            async with asyncio.timeout(_IDLE_TIMEOUT):
                length = int.from_bytes(await reader.readexactly(2), "big")
                data = await reader.readexactly(length)
            reply = await answering.resolver.answer(answering.view, data, tcp=True)
            if reply is None:
                return
            writer.write(len(reply).to_bytes(2, "big") + reply)
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        served.writers.discard(writer)
        writer.close()


def _reply(query: DNSRecord, code: int) -> DNSRecord:
    header = DNSHeader(id=query.header.id, qr=1, aa=0, ra=1, rd=query.header.rd, rcode=code)
    return DNSRecord(header, q=query.q)


def _format_error(data: bytes) -> bytes | None:
    """FORMERR for what at least has an id and is a query; silence for the rest, so that answers are never answered."""
    if len(data) < 12 or data[2] & 0x80:
        return None
    return data[:2] + bytes([0x80 | (data[2] & 0x79), 0x80 | RCODE.FORMERR]) + bytes(8)


def _datagram(reply: DNSRecord, query: DNSRecord) -> bytes:
    """A reply as long as the asker takes; what is too long keeps its question, the answers that fit, and the truncation bit.

    glibc takes no reply without the question, not even to learn that it should ask again over TCP. Source: RFC 2181 section 9,
    RFC 6891 section 6.2.5.
    """
    room = _UDP_SIZE
    for option in query.ar:
        if option.rtype == QTYPE.OPT:
            room = min(max(option.rclass, _UDP_SIZE), _LARGEST_UDP_SIZE)
            reply.add_ar(EDNS0(udp_len=_LARGEST_UDP_SIZE))
    packed = bytes(reply.pack())
    while len(packed) > room and reply.rr:
        reply.header.tc = 1
        excess = len(packed) - room
        del reply.rr[-max(1, excess * len(reply.rr) // len(packed)) :]
        packed = bytes(reply.pack())
    return packed


def _records(kind: int, addresses: Sequence[Address]) -> list[A | AAAA]:
    """Address records of the family asked for, in random order; none for other types: the name exists all the same."""
    version = {QTYPE.A: 4, QTYPE.AAAA: 6}.get(kind)
    chosen = [address for address in addresses if address.version == version]
    random.shuffle(chosen)
    return [A(str(address)) if version == 4 else AAAA(str(address)) for address in chosen]


def _reversed_address(name: str) -> Address | None:
    """The address in a name of in-addr.arpa or ip6.arpa; None when there is none."""
    lowered = name.lower()
    try:
        if lowered.endswith(".in-addr.arpa"):
            return ipaddress.IPv4Address(".".join(reversed(lowered.removesuffix(".in-addr.arpa").split("."))))
        if lowered.endswith(".ip6.arpa"):
            digits = "".join(reversed(lowered.removesuffix(".ip6.arpa").split(".")))
            if len(digits) == 32:
                return ipaddress.IPv6Address(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)))
    except ValueError:
        return None
    return None
