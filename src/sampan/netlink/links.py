"""Links: bridges, veth pairs, macvlan and ipvlan, and what is set on them.

Functions build requests for `NetlinkSocket.execute`; `find` and `parse` read links back. An interface is named by its index, or by
its name where the caller has not looked it up.

Source: rtnetlink(7), the kernel's `if_link.h`, `veth.h` and `if_bridge.h`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from sampan.netlink.message import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Request,
    attribute,
    attributes,
    nested,
    text,
    u8,
    u32,
)
from sampan.netlink.socket import NetlinkSocket

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18

IFF_UP = 0x1

_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINK = 5
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
_IFLA_IFALIAS = 20
_IFLA_AF_SPEC = 26
_IFLA_NET_NS_FD = 28
_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2
_IFLA_INFO_SLAVE_KIND = 4
_IFLA_INFO_SLAVE_DATA = 5
_VETH_INFO_PEER = 1
_IFLA_MACVLAN_MODE = 1
_IFLA_IPVLAN_MODE = 1
_IFLA_IPVLAN_FLAGS = 2
_IFLA_BRPORT_MODE = 4
_IFLA_BRPORT_ISOLATED = 33
_IFLA_INET6_ADDR_GEN_MODE = 8
_ADDR_GEN_MODE_NONE = 1
_AF_INET6 = 10

_INFO = struct.Struct("=BxHiII")

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}


class Link(NamedTuple):
    """An interface as the kernel describes it."""

    number: int
    """The interface's index."""
    name: str
    up: bool
    mtu: int
    mac: str
    kind: str
    """"bridge", "veth"…; empty for physical ones and lo."""
    master: int
    """Index of the bridge it belongs to; 0 for none."""
    alias: str
    """Free text of whoever made it."""


def _info(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _INFO.pack(0, 0, index, flags, change)


def _mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", "").replace("-", ""))


def create_bridge(name: str, *, mac: str | None = None, mtu: int | None = None) -> Request:
    """A new bridge, down. Fails with EEXIST when the name is taken."""
    payload = _info() + text(_IFLA_IFNAME, name)
    if mac is not None:
        payload += attribute(_IFLA_ADDRESS, _mac(mac))
    if mtu is not None:
        payload += u32(_IFLA_MTU, mtu)
    payload += nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "bridge"))
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload, f"create bridge {name}")


def create_veth(
    name: str, *, peer: str, peer_netns: int, peer_mac: str | None, master: int, mtu: int | None
) -> Request:
    """A veth pair: our end `name`, a port of the bridge `master` (0: none); the other straight into the namespace `peer_netns`
    (a descriptor). Both are down, so that nothing passes before they are configured."""
    size = b"" if mtu is None else u32(_IFLA_MTU, mtu)
    other = _info() + text(_IFLA_IFNAME, peer) + size + u32(_IFLA_NET_NS_FD, peer_netns)
    if peer_mac is not None:
        other += attribute(_IFLA_ADDRESS, _mac(peer_mac))
    kind = nested(
        _IFLA_LINKINFO,
        text(_IFLA_INFO_KIND, "veth"),
        nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, other)),
    )
    payload = _info() + text(_IFLA_IFNAME, name) + size
    if master:
        payload += u32(_IFLA_MASTER, master)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload + kind, f"create veth {name}")


def create_macvlan(name: str, *, parent: int, mode: str, netns: int, mac: str | None) -> Request:
    """A macvlan link on `parent` (an index here), made in the namespace `netns`."""
    data = u32(_IFLA_MACVLAN_MODE, MACVLAN_MODES[mode])
    return _create_child("macvlan", name, parent, netns, data, mac)


def create_ipvlan(name: str, *, parent: int, mode: str, flag: str, netns: int) -> Request:
    """An ipvlan link on `parent` (an index here), made in the namespace `netns`. It shares the parent's hardware address."""
    data = attribute(_IFLA_IPVLAN_MODE, struct.pack("=H", IPVLAN_MODES[mode]))
    data += attribute(_IFLA_IPVLAN_FLAGS, struct.pack("=H", IPVLAN_FLAGS[flag]))
    return _create_child("ipvlan", name, parent, netns, data, None)


def _create_child(kind: str, name: str, parent: int, netns: int, data: bytes, mac: str | None) -> Request:
    payload = _info() + text(_IFLA_IFNAME, name) + u32(_IFLA_LINK, parent) + u32(_IFLA_NET_NS_FD, netns)
    if mac is not None:
        payload += attribute(_IFLA_ADDRESS, _mac(mac))
    payload += nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, kind), nested(_IFLA_INFO_DATA, data))
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload, f"create {kind} {name}")


def create_vlan(name: str, *, parent: int, vlan: int) -> Request:
    """An 802.1Q sub-interface of `parent`, up."""
    data = nested(_IFLA_INFO_DATA, attribute(1, struct.pack("=H", vlan)))
    payload = _info(flags=IFF_UP, change=IFF_UP) + text(_IFLA_IFNAME, name) + u32(_IFLA_LINK, parent)
    payload += nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "vlan"), data)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload, f"create vlan {name}")


def create_dummy(name: str) -> Request:
    """A dummy link, up: the parent of macvlan and ipvlan networks that name none."""
    payload = _info(flags=IFF_UP, change=IFF_UP) + text(_IFLA_IFNAME, name)
    payload += nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "dummy"))
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload, f"create dummy {name}")


def set_up(index: int, up: bool = True) -> Request:
    """Bring a link up or down."""
    payload = _info(index, flags=IFF_UP if up else 0, change=IFF_UP)
    return Request(RTM_NEWLINK, 0, payload, f"set link {index} {'up' if up else 'down'}")


def set_named_up(name: str) -> Request:
    """Bring a link up that nobody has looked up."""
    payload = _info(flags=IFF_UP, change=IFF_UP) + text(_IFLA_IFNAME, name)
    return Request(RTM_NEWLINK, 0, payload, f"set link {name} up")


def set_alias(name: str, alias: str) -> Request:
    """Mark a link, found by its name: in one batch with its creation there is no moment at which nobody knows whose it is."""
    payload = _info() + text(_IFLA_IFNAME, name) + text(_IFLA_IFALIAS, alias)
    return Request(RTM_NEWLINK, 0, payload, f"mark link {name}")


def set_name(index: int, name: str) -> Request:
    """Rename a link (which must be down on kernels before 6.2)."""
    return Request(RTM_NEWLINK, 0, _info(index) + text(_IFLA_IFNAME, name), f"rename link {index} to {name}")


def set_mac(index: int, mac: str) -> Request:
    """Give a link a hardware address."""
    return Request(RTM_NEWLINK, 0, _info(index) + attribute(_IFLA_ADDRESS, _mac(mac)), f"set mac {mac}")


def set_mtu(index: int, mtu: int) -> Request:
    """Give a link a maximum transmission unit, in bytes."""
    return Request(RTM_NEWLINK, 0, _info(index) + u32(_IFLA_MTU, mtu), f"set mtu {mtu}")


def set_master(index: int, master: int) -> Request:
    """Make a link a port of a bridge; 0 takes it out."""
    return Request(RTM_NEWLINK, 0, _info(index) + u32(_IFLA_MASTER, master), f"set master {master}")


def set_no_automatic_ipv6(index: int) -> Request:
    """The link gets no link-local IPv6 address by itself: what `disable_ipv6` is for, without entering the namespace."""
    mode = u8(_IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE)
    payload = _info(index) + nested(_IFLA_AF_SPEC, nested(_AF_INET6, mode))
    return Request(RTM_NEWLINK, 0, payload, f"disable automatic IPv6 addresses of link {index}")


def set_port(index: int, *, hairpin: bool, isolated: bool) -> Request:
    """Options of a bridge port: frames may return through it; isolated ports do not reach each other."""
    data = nested(_IFLA_INFO_SLAVE_DATA, u8(_IFLA_BRPORT_MODE, hairpin), u8(_IFLA_BRPORT_ISOLATED, isolated))
    payload = _info(index) + nested(_IFLA_LINKINFO, text(_IFLA_INFO_SLAVE_KIND, "bridge"), data)
    return Request(RTM_NEWLINK, 0, payload, f"set bridge port {index}")


def delete(index: int) -> Request:
    """Remove a link. A veth takes 27 ms under the RTNL lock: leave those to die with their namespace where possible."""
    return Request(RTM_DELLINK, 0, _info(index), f"delete link {index}")


def find(sock: NetlinkSocket, name: str) -> Link | None:
    """The link of a name; None when there is none."""
    request = Request(RTM_GETLINK, 0, _info() + text(_IFLA_IFNAME, name), f"look up link {name}")
    answer = sock.get(request)
    return None if answer is None else parse(answer)


def all_links(sock: NetlinkSocket) -> list[Link]:
    """Every link of the namespace."""
    return [parse(payload) for payload in sock.dump(Request(RTM_GETLINK, 0, _info(), "list links"))]


def parse(payload: bytes) -> Link:
    """A link from RTM_NEWLINK's payload. Raises `ValueError` for one that is broken."""
    if len(payload) < _INFO.size:
        raise ValueError(f"link message of {len(payload)} bytes")
    _, _, index, flags, _ = _INFO.unpack_from(payload)
    found = attributes(payload[_INFO.size :])
    kind = attributes(found.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"")
    return Link(
        index,
        found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="surrogateescape"),
        bool(flags & IFF_UP),
        int.from_bytes(found.get(_IFLA_MTU, b""), "little"),
        found.get(_IFLA_ADDRESS, b"").hex(":"),
        kind.rstrip(b"\0").decode(errors="surrogateescape"),
        int.from_bytes(found.get(_IFLA_MASTER, b""), "little"),
        found.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace"),
    )
