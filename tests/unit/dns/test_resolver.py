"""Messages in, messages out; the upstream is a server of this process on loopback."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest
from dnslib import EDNS0, QTYPE, RCODE, RR, A, DNSRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.dns.directory import Directory
from sampan.dns.forwarder import Forwarder
from sampan.dns.resolver import Resolver, View


def make(upstreams: list[str] | None = None) -> tuple[Resolver, View]:
    directory = Directory()
    directory.register("n1", "net", "c1", ["web"], [ip_address("172.18.0.2")])
    directory.register("n1", "net", "c2", ["six"], [ip_address("fd00::2")])
    resolver = Resolver(directory, Forwarder(lambda: upstreams or []))
    return resolver, View("c1", ["n1"], [], forward=bool(upstreams))


def ask(resolver: Resolver, view: View, name: str, kind: str = "A", tcp: bool = False) -> DNSRecord:
    reply = asyncio.run(resolver.answer(view, bytes(DNSRecord.question(name, kind).pack()), tcp=tcp))
    assert reply is not None
    return DNSRecord.parse(reply)


def test_addresses_of_both_families() -> None:
    resolver, view = make()
    assert [str(record.rdata) for record in ask(resolver, view, "web").rr] == ["172.18.0.2"]
    assert [str(record.rdata) for record in ask(resolver, view, "six.net", "AAAA").rr] == ["fd00::2"]
    assert ask(resolver, view, "web").rr[0].ttl == 600


def test_a_name_without_an_address_of_that_family_exists_all_the_same() -> None:
    resolver, view = make()
    reply = ask(resolver, view, "web", "AAAA")
    assert reply.header.rcode == RCODE.NOERROR and not reply.rr
    assert ask(resolver, view, "web", "MX").header.rcode == RCODE.NOERROR


def test_reverse_of_both_families() -> None:
    resolver, view = make()
    assert str(ask(resolver, view, "2.0.18.172.in-addr.arpa", "PTR").rr[0].rdata) == "web.net."
    name = ".".join(reversed(ip_address("fd00::2").exploded.replace(":", ""))) + ".ip6.arpa"
    assert str(ask(resolver, view, name, "PTR").rr[0].rdata) == "six.net."


def test_a_datagram_holds_what_fits_and_always_the_question() -> None:
    """glibc drops a truncated reply without its question, and never asks over TCP."""
    directory = Directory()
    for number in range(100):
        directory.register("n1", "net", f"c{number}", ["many"], [ip_address(f"172.18.0.{number}")])
    resolver, view = Resolver(directory, Forwarder(list)), View("c1", ["n1"], [])

    def asked(room: int, tcp: bool = False) -> tuple[int, DNSRecord]:
        query = DNSRecord.question("many")
        if room:
            query.add_ar(EDNS0(udp_len=room))
        reply = asyncio.run(resolver.answer(view, bytes(query.pack()), tcp=tcp))
        assert reply is not None
        return len(reply), DNSRecord.parse(reply)

    for room, fits in ((0, 512), (100, 512), (800, 800), (1232, 1232)):
        length, reply = asked(room)
        assert fits - 32 < length <= fits and reply.header.tc and str(reply.q.qname) == "many."
        assert 0 < len(reply.rr) < 100
    for reply in (asked(4096)[1], asked(65535)[1], asked(0, tcp=True)[1]):
        assert len(reply.rr) == 100 and not reply.header.tc


def test_nothing_is_forwarded_from_internal_networks() -> None:
    resolver, view = make()
    assert ask(resolver, view, "example.org").header.rcode == RCODE.SERVFAIL


def test_single_labels_are_left_to_the_client_when_ndots_is_set() -> None:
    resolver, view = make(["127.0.0.1#1"])
    view.ndots_set = True
    reply = ask(resolver, view, "unknown")
    assert reply.header.rcode == RCODE.NOERROR and not reply.rr


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x12\x34\x80\x00" + bytes(8)])
def test_what_is_no_query_gets_no_answer(data: bytes) -> None:
    resolver, view = make()
    assert asyncio.run(resolver.answer(view, data, tcp=False)) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_hostile_messages_are_survived(data: bytes) -> None:
    resolver, view = make()
    reply = asyncio.run(resolver.answer(view, data, tcp=False))
    assert reply is None or reply[:2] == data[:2]


class _Upstream(asyncio.DatagramProtocol):
    """Answers with an address, for names beginning with `big` truncated over UDP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        query = DNSRecord.parse(data)
        reply = query.reply()
        reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A("203.0.113.7"), ttl=5))
        self.transport.sendto(reply.pack(), address)  # type: ignore[attr-defined]


def test_other_names_are_forwarded_and_keep_their_id() -> None:
    async def scenario() -> DNSRecord:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(_Upstream, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        # the first server refuses the datagram (nobody listens there): the second is asked
        resolver, view = make(["127.0.0.1#1", f"127.0.0.1#{port}"])
        query = DNSRecord.question("example.org")
        query.header.id = 4711
        reply = await resolver.answer(view, bytes(query.pack()), tcp=False)
        transport.close()
        assert reply is not None
        return DNSRecord.parse(reply)

    reply = asyncio.run(scenario())
    assert reply.header.id == 4711 and str(reply.rr[0].rdata) == "203.0.113.7"
