"""The resolver's sockets inside a container's namespace, and the rules that lead port 53 to them.

`make` is run inside the namespace (`sampan.netlink.thread.NamespaceVisitor`); what it returns works from anywhere.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

ADDRESS = "127.0.0.11"
TABLE = "sampan-dns"

_BACKLOG = 64


class ResolverSockets(NamedTuple):
    """Bound and non-blocking; the caller owns them."""

    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        """Close both."""
        self.udp.close()
        self.tcp.close()


def make() -> ResolverSockets:
    """Bind both sockets to random ports. lo must be up, which makes all of 127.0.0.0/8 local."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        udp.bind((ADDRESS, 0))
        tcp.bind((ADDRESS, 0))
        tcp.listen(_BACKLOG)
    except OSError:
        udp.close()
        tcp.close()
        raise
    return ResolverSockets(udp, tcp)


def adopt(descriptors: list[int]) -> ResolverSockets:
    """The two sockets that an earlier engine made, whose rules still stand; the descriptors are taken over."""
    found = {sock.type: sock for sock in (socket.socket(fileno=descriptor) for descriptor in descriptors)}
    for sock in found.values():
        sock.setblocking(False)
    return ResolverSockets(found[socket.SOCK_DGRAM], found[socket.SOCK_STREAM])


def redirection(udp_port: int, tcp_port: int) -> str:
    """nft commands that lead 127.0.0.11:53 to these ports, in place of whatever an earlier engine's led to.

    Flushing, not deleting: a connection to nf_tables that has deleted something waits 5-20 ms for RCU when it is closed, and in a
    fresh namespace there is nothing to flush.
    """
    return (
        f"add table ip {TABLE}\n"
        f"flush table ip {TABLE}\n"
        f"add chain ip {TABLE} output {{ type nat hook output priority -100; }}\n"
        f"add rule ip {TABLE} output ip daddr {ADDRESS} udp dport 53 dnat to {ADDRESS}:{udp_port}\n"
        f"add rule ip {TABLE} output ip daddr {ADDRESS} tcp dport 53 dnat to {ADDRESS}:{tcp_port}\n"
    )
