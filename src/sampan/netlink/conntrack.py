"""Connections that the kernel remembers, and how it is made to forget them.

A UDP flow has no end: as long as its client goes on sending, it is translated as it was at its first packet, to a container that is
gone, or not at all if it is older than the published port. Source: the kernel's `nfnetlink_conntrack.h`.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection

from sampan.netlink.message import Request, attributes, nested
from sampan.netlink.socket import NetlinkSocket

_GET = 0x0101
_DELETE = 0x0102
_CTA_TUPLE_ORIG = 1
_CTA_TUPLE_PROTO = 2
_CTA_PROTO_NUM = 1
_CTA_PROTO_DST_PORT = 3
_UDP = socket.IPPROTO_UDP


def _head(family: int) -> bytes:
    return struct.pack("=BBH", family, 0, 0)


def forget_udp(sock: NetlinkSocket, ports: Collection[int]) -> int:
    """Forget every UDP flow of the namespace to one of these ports; how many there were. `sock` is of NETLINK_NETFILTER."""
    deletions = []
    for family in (socket.AF_INET, socket.AF_INET6):
        for payload in sock.dump(Request(_GET, 0, _head(family), "list connections")):
            original = udp_flow_to(payload, ports)
            if original is not None:
                deletion = _head(family) + nested(_CTA_TUPLE_ORIG, original)
                deletions.append(Request(_DELETE, 0, deletion, "forget a connection"))
    sock.execute(deletions, tolerate=[errno.ENOENT])
    return len(deletions)


def udp_flow_to(payload: bytes, ports: Collection[int]) -> bytes | None:
    """The original direction's tuple, where a dumped connection is a UDP flow to one of the ports.

    Raises `ValueError` for a message that is broken.
    """
    original = attributes(payload[4:]).get(_CTA_TUPLE_ORIG, b"")
    protocol = attributes(attributes(original).get(_CTA_TUPLE_PROTO, b""))
    number = protocol.get(_CTA_PROTO_NUM, b"")
    port = int.from_bytes(protocol.get(_CTA_PROTO_DST_PORT, b""), "big")
    return original if number == bytes([_UDP]) and port in ports else None
