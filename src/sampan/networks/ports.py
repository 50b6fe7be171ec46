"""Host ports: what is asked for, what is free, and sockets that keep it.

A port is published by the packet filter, but it is also bound here, so that a port that any program of the machine uses
is noticed, and no program takes one of ours. Where the filter cannot lead a connection (to ::1, from IPv6 to an IPv4
container, without a filter) it arrives at that socket, and `sampan.networks.relay` carries it.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from sampan.engineapi.container import PortBinding
from sampan.errors import InvalidParameter, SystemFailure, reason_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}
_IPPROTO_SCTP = 132
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_BACKLOG = 1024
_ANY4, _ANY6 = ipaddress.IPv4Address(0), ipaddress.IPv6Address(0)


class Wanted(NamedTuple):
    """One publication that a container asks for."""

    protocol: str
    port: int
    """In the container."""
    addresses: tuple[Address, ...]
    """On the host: one, or both families' wildcards, which then share a host port."""
    first: int
    """Host port, or the first of a range; 0: any that is free."""
    last: int


class Reservation(NamedTuple):
    """One host port that is ours."""

    protocol: str
    port: int
    host: Address
    host_port: int
    socket: socket.socket | None
    """None where the kernel has no such protocol (sctp) and nobody can take it."""


def parse_port(text: str) -> tuple[int, str]:
    """ "80/tcp" → (80, "tcp"). Raises `InvalidParameter`."""
    number, _, protocol = text.partition("/")
    protocol = (protocol or "tcp").lower()
    if protocol not in _KINDS:
        raise InvalidParameter(f"invalid proto: {protocol}")
    return _number(number, text), protocol


def parse_range(text: str) -> tuple[int, int]:
    """HostPort: "" → (0, 0), "8080" → (8080, 8080), "8000-8010". Raises `InvalidParameter`."""
    if not text:
        return 0, 0
    low, dash, high = text.partition("-")
    first = _number(low, text)
    last = _number(high, text) if dash else first
    if last < first:
        raise InvalidParameter(f"invalid port range specified for the host: {text}")
    return first, last


def _number(text: str, whole: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= 65535:
        raise InvalidParameter(f"invalid port specification: {whole!r}")
    return int(text)


def wanted_ports(
    published: Mapping[str, Sequence[PortBinding] | None],
    exposed: Iterable[str],
    publish_all: bool,
    default_address: Address,
) -> list[Wanted]:
    """All publications of a container, those with a fixed host port first, so that a free one is not chosen among them.

    `default_address` is where a binding without a host address goes; 0.0.0.0 stands for both families.
    """
    found: list[Wanted] = []
    for name, bindings in published.items():
        port, protocol = parse_port(name)
        for binding in bindings or ():
            first, last = parse_range(binding.host_port)
            found.append(Wanted(protocol, port, _hosts(binding.host_ip, default_address), first, last))
    if publish_all:
        for name in exposed:
            if not published.get(name):
                port, protocol = parse_port(name)
                found.append(Wanted(protocol, port, _hosts("", default_address), 0, 0))
    return sorted(found, key=lambda wanted: (wanted.first == 0, wanted.first != wanted.last))


def _hosts(text: str, default: Address) -> tuple[Address, ...]:
    if text:
        try:
            return (ipaddress.ip_address(text.strip("[]")),)
        except ValueError:
            raise InvalidParameter(f"invalid IP address: {text}") from None
    return (_ANY4, _ANY6) if default == _ANY4 and socket.has_ipv6 and _host_has_ipv6() else (default,)


def _host_has_ipv6() -> bool:
    try:
        return Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").read_text().strip() == "0"
    except OSError:
        return False


def by_name(descriptors: Iterable[int]) -> dict[tuple[str, Address, int], socket.socket]:
    """Sockets of `HostPorts` by protocol, host address and host port. The descriptors are taken over."""
    found = {}
    for descriptor in descriptors:
        sock = socket.socket(fileno=descriptor)
        name = sock.getsockname()
        protocol = {socket.SOCK_DGRAM: "udp"}.get(sock.type, "sctp" if sock.proto == _IPPROTO_SCTP else "tcp")
        found[protocol, ipaddress.ip_address(name[0]), name[1]] = sock
    return found


class PortTaken(SystemFailure):
    """Somebody has the port; another one may be free."""


class HostPorts:
    """The ports that this engine holds."""

    def __init__(self) -> None:
        self._held: set[tuple[str, int, Address]] = set()
        self._cursor = 0

    def reserve(self, wanted: Wanted) -> list[Reservation]:
        """Take a host port on all its addresses.

        Raises in dockerd's words: `PortTaken` for a port that we or anybody has, `SystemFailure` for an address that the
        machine does not have.
        """
        if wanted.first:
            candidates: Iterable[int] = range(wanted.first, wanted.last + 1)
        else:
            candidates = self._ephemeral()
        failure: PortTaken | None = None
        for number in candidates:
            try:
                return self._take(wanted, number)
            except PortTaken as error:
                failure = error
        if (wanted.first and wanted.first != wanted.last) or failure is None:
            raise SystemFailure("all ports are allocated")
        raise failure

    def adopt(self, held: Reservation) -> None:
        """A port that an earlier engine took, with its socket."""
        self._held.add((held.protocol, held.host_port, held.host))

    def release(self, reservations: Iterable[Reservation]) -> None:
        """Give ports back. Idempotent."""
        for held in reservations:
            self._held.discard((held.protocol, held.host_port, held.host))
            if held.socket is not None:
                held.socket.close()

    def _take(self, wanted: Wanted, number: int) -> list[Reservation]:
        taken: list[Reservation] = []
        try:
            for address in wanted.addresses:
                if (clash := self._clash(wanted.protocol, number, address)) is not None:
                    host = _bracketed(clash if clash.is_unspecified else address)
                    raise PortTaken(f"Bind for {host}:{number} failed: port is already allocated")
                held = _bind(wanted.protocol, address, number)
                self._held.add((wanted.protocol, number, address))
                taken.append(Reservation(wanted.protocol, wanted.port, address, number, held))
        except BaseException:
            self.release(taken)
            raise
        return taken

    def _clash(self, protocol: str, number: int, address: Address) -> Address | None:
        """The address in use that is in the way: a wildcard clashes with every address of its family."""
        clashes = (
            held[2]
            for held in self._held
            if held[0] == protocol
            and held[1] == number
            and held[2].version == address.version
            and (held[2] == address or held[2].is_unspecified or address.is_unspecified)
        )
        return next(clashes, None)

    def _ephemeral(self) -> Iterable[int]:
        try:
            first, last = map(int, _RANGE_FILE.read_text().split())
        except (OSError, ValueError):
            first, last = 32768, 60999
        start = self._cursor + 1 if first <= self._cursor < last else first
        for number in chain(range(start, last + 1), range(first, start)):
            self._cursor = number
            yield number


def _bracketed(address: Address) -> str:
    return str(address) if address.version == 4 else f"[{address}]"


def _bind(protocol: str, address: Address, number: int) -> socket.socket | None:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        sock = socket.socket(family, _KINDS[protocol], _IPPROTO_SCTP if protocol == "sctp" else 0)
    except OSError as error:
        if protocol == "sctp" and error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return None
        raise SystemFailure(f"cannot make a {protocol} socket: {os.strerror(error.errno or 0)}") from error
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            # Old connections of another program in TIME_WAIT do not keep the port; a listening socket does.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((str(address), number))
        if protocol != "udp":
            sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        words = reason_of(error)
        host = _bracketed(address)
        kind = PortTaken if error.errno == errno.EADDRINUSE else SystemFailure
        raise kind(f"failed to bind host port {host}:{number}/{protocol}: {words}") from error
    return sock
