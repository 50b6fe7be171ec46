"""Addresses, routes and neighbours of a namespace.

Functions build requests for `NetlinkSocket.execute`; `all_addresses` and `all_routes` read them back. Both families throughout:
`ipaddress` objects say which.

Source: rtnetlink(7) and the kernel's `if_addr.h`, `rtnetlink.h`, `neighbour.h`.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import NamedTuple

from sampan.netlink.message import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Request,
    attribute,
    attributes,
    u32,
)
from sampan.netlink.socket import NetlinkSocket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26
RTM_NEWNEIGH = 28

_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_BROADCAST = 4
_IFA_F_NODAD = 0x02
_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_TABLE = 15
_NDA_DST = 1
_NDA_LLADDR = 2
_NUD_PERMANENT = 0x80
_RT_TABLE_MAIN = 254
_RTPROT_BOOT = 3
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
_RTN_UNICAST = 1
_RTN_LOCAL = 2

_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")


class Route(NamedTuple):
    """A route as the kernel describes it."""

    destination: Subnet
    gateway: Address | None
    number: int
    """Index of the interface; 0 for none (blackhole, multipath)."""
    local: bool
    """An address of this machine, from the local table."""


def _family(address: Address | Subnet) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def add_address(index: int, address: Interface) -> Request:
    """Give an interface an address, without duplicate address detection: our IPAM handed it out once."""
    return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, _address(index, address), f"add address {address}")


def delete_address(index: int, address: Interface) -> Request:
    """Take an address away."""
    return Request(RTM_DELADDR, 0, _address(index, address), f"remove address {address}")


def _address(index: int, address: Interface) -> bytes:
    flags = 0 if address.version == 4 else _IFA_F_NODAD
    packed = address.ip.packed
    payload = _ADDRESS.pack(_family(address.ip), address.network.prefixlen, flags, 0, index)
    payload += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    if address.version == 4 and address.network.prefixlen < 31:
        payload += attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
    return payload


def add_route(
    destination: Subnet | None, *, version: int, gateway: Address | None = None, index: int = 0
) -> Request:
    """A route in the main table; destination None is the default route. An equal one is replaced."""
    return Request(
        RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_REPLACE,
        _route(destination, version, gateway, index),
        f"add route {destination or 'default'}{f' via {gateway}' if gateway else ''}",
    )


def delete_route(
    destination: Subnet | None, *, version: int, gateway: Address | None = None, index: int = 0
) -> Request:
    """Remove a route of the main table."""
    payload = _route(destination, version, gateway, index)
    return Request(RTM_DELROUTE, 0, payload, f"remove route {destination or 'default'}")


def _route(destination: Subnet | None, version: int, gateway: Address | None, index: int) -> bytes:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    bits = 0 if destination is None else destination.prefixlen
    scope = _RT_SCOPE_UNIVERSE if gateway is not None or version == 6 else _RT_SCOPE_LINK
    payload = _ROUTE.pack(family, bits, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, scope, _RTN_UNICAST, 0)
    if destination is not None:
        payload += attribute(_RTA_DST, destination.network_address.packed)
    if gateway is not None:
        payload += attribute(_RTA_GATEWAY, gateway.packed)
    if index:
        payload += u32(_RTA_OIF, index)
    return payload


def add_neighbour(index: int, address: Address, mac: str) -> Request:
    """A permanent entry of the ARP or neighbour table."""
    payload = _NEIGHBOUR.pack(_family(address), index, _NUD_PERMANENT, 0, 0)
    payload += attribute(_NDA_DST, address.packed)
    payload += attribute(_NDA_LLADDR, bytes.fromhex(mac.replace(":", "")))
    return Request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, payload, f"add neighbour {address}")


def all_addresses(sock: NetlinkSocket) -> list[tuple[int, Interface]]:
    """(interface index, address) of every address in the namespace."""
    request = Request(RTM_GETADDR, 0, _ADDRESS.pack(0, 0, 0, 0, 0), "list addresses")
    found = []
    for payload in sock.dump(request):
        family, bits, _, _, index = _ADDRESS.unpack_from(payload)
        given = attributes(payload[_ADDRESS.size :])
        packed = given.get(_IFA_LOCAL) or given.get(_IFA_ADDRESS)
        if packed and family in (socket.AF_INET, socket.AF_INET6):
            found.append((index, ipaddress.ip_interface((packed, bits))))
    return found


def all_routes(sock: NetlinkSocket) -> list[Route]:
    """Every unicast and local route of the namespace, in all tables, the default routes included."""
    request = Request(RTM_GETROUTE, 0, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), "list routes")
    return [route for payload in sock.dump(request) if (route := parse_route(payload)) is not None]


def parse_route(payload: bytes) -> Route | None:
    """A route from RTM_NEWROUTE's payload; None for other families and types. Raises `ValueError` for one that is broken."""
    if len(payload) < _ROUTE.size:
        raise ValueError(f"route message of {len(payload)} bytes")
    family, bits, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(payload)
    if family not in (socket.AF_INET, socket.AF_INET6) or kind not in (_RTN_UNICAST, _RTN_LOCAL):
        return None
    given = attributes(payload[_ROUTE.size :])
    packed = given.get(_RTA_DST) or bytes(4 if family == socket.AF_INET else 16)
    gateway = given.get(_RTA_GATEWAY)
    return Route(
        ipaddress.ip_network((packed, bits)),
        None if gateway is None else ipaddress.ip_address(gateway),
        int.from_bytes(given.get(_RTA_OIF, b""), "little"),
        kind == _RTN_LOCAL,
    )
