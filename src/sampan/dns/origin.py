"""From where a container's questions go out to the world.

They leave from the container's own network namespace, as if it had asked itself: so they are routed and filtered as its traffic, a
container on an internal network cannot send anything by way of names (CVE-2024-29018), and `--dns 127.0.0.1` is the container's own
loopback. Two kinds of the host's servers are asked from the host, as dockerd does: those on its loopback, and IPv6 ones when the
container has no way to them.

A socket belongs to the namespace it was created in for good; only its creation needs a visit there.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")

_NO_WAY = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Visitor(Protocol):
    """Runs a function inside a network namespace: `sampan.netlink.thread.NamespaceVisitor`."""

    async def run(self, netns: int, function: Callable[[], T]) -> T: ...


class Origin:
    """Makes the sockets of one container's forwarded questions. `close` it when the container is served no more."""

    def __init__(self, visitor: Visitor, netns: int, *, own_servers: bool) -> None:
        """`netns` is duplicated. `own_servers`: the servers are the container's choice, not those of the host."""
        self._visitor = visitor
        self._netns = os.dup(netns)
        self.own_servers = own_servers

    def close(self) -> None:
        """Idempotent."""
        netns, self._netns = self._netns, -1
        if netns >= 0:
            os.close(netns)

    async def open(self, host: str, port: int, kind: socket.SocketKind) -> socket.socket:
        """A non-blocking socket from which `host` is to be asked; a datagram socket is connected already. Raises OSError."""
        if self._netns < 0 or (not self.own_servers and _is_loopback(host)):
            return _connected(_socket(host, kind), host, port)
        made = await self._visitor.run(self._netns, lambda: _socket(host, kind))
        try:
            return _connected(made, host, port)
        except OSError as error:
            if self.own_servers or ":" not in host or error.errno not in _NO_WAY:
                raise
        return _connected(_socket(host, kind), host, port)


class HostOrigin:
    """Asks from where the engine is."""

    own_servers = False

    def close(self) -> None:
        """Nothing is held."""

    async def open(self, host: str, port: int, kind: socket.SocketKind) -> socket.socket:
        """See `Origin.open`."""
        return _connected(_socket(host, kind), host, port)


def _socket(host: str, kind: socket.SocketKind) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind | socket.SOCK_NONBLOCK)


def _connected(made: socket.socket, host: str, port: int) -> socket.socket:
    if made.type == socket.SOCK_STREAM:
        return made  # that takes time: the loop's affair
    try:
        made.connect((host, port))
    except BaseException:
        made.close()
        raise
    return made


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
