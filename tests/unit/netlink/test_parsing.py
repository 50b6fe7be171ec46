"""Links and routes from the kernel's messages."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.netlink import addresses, links
from sampan.netlink.message import attribute, text, u32


def test_a_link() -> None:
    payload = struct.pack("=BxHiII", 0, 1, 7, links.IFF_UP, 0)
    payload += text(3, "eth0") + u32(4, 1500) + u32(10, 3) + attribute(1, bytes.fromhex("0242ac110002"))
    assert links.parse(payload) == links.Link(7, "eth0", True, 1500, "02:42:ac:11:00:02", "", 3, "")


def test_a_default_route_and_one_with_a_destination() -> None:
    head = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0)
    gateway = ipaddress.ip_address("10.0.0.1")
    route = addresses.parse_route(head + attribute(5, gateway.packed) + u32(4, 2))
    assert route == addresses.Route(ipaddress.ip_network("0.0.0.0/0"), gateway, 2, False)
    head = struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 3, 0, 1, 0)
    route = addresses.parse_route(head + attribute(1, bytes([10, 0, 0, 0])))
    assert route is not None and str(route.destination) == "10.0.0.0/24"


def test_broadcast_and_multicast_routes_are_not_routes() -> None:
    assert addresses.parse_route(struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 255, 2, 0, 3, 0)) is None


@given(st.binary(max_size=100))
def test_hostile_payloads(data: bytes) -> None:
    for parse in (links.parse, addresses.parse_route):
        try:
            parse(data)
        except ValueError:
            pass


@pytest.mark.parametrize("mac", ["02:42:ac:11:00:02", "02-42-AC-11-00-02"])
def test_a_mac_address_is_six_bytes(mac: str) -> None:
    assert bytes.fromhex("0242ac110002") in links.set_mac(1, mac).payload
