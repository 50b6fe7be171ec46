"""Addresses: subnets for networks, addresses for containers. Pure; the callers keep what is handed out.

Addresses go round-robin: the host end of a stopped container's link lives on for some 100 ms, and a neighbour may
remember the address for longer, so the one just freed comes last.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from typing import cast

from sampan.engineapi.network import IPAMConfig
from sampan.errors import Forbidden, InvalidParameter, SystemFailure

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_POOLS: tuple[tuple[str, int], ...] = (
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)
"""dockerd's own."""

_COUNT_LIMIT = 2**64 - 1


class AddressPool:
    """One subnet of a network."""

    def __init__(self, config: IPAMConfig) -> None:
        """`config.subnet` must be a valid subnet; the gateway, where given, is taken at once."""
        self.subnet: Subnet = ipaddress.ip_network(config.subnet)
        self.range: Subnet = ipaddress.ip_network(config.ip_range) if config.ip_range else self.subnet
        self.gateway: Address | None = None
        self._used: set[int] = set()
        self._cursor = -1
        for address in (config.auxiliary_addresses or {}).values():
            self._used.add(int(ipaddress.ip_address(address)))
        if config.gateway:
            self.gateway = ipaddress.ip_address(config.gateway)
            self._used.add(int(self.gateway))

    def take_gateway(self) -> Address:
        """The gateway's address; the range's first free one where none was given."""
        if self.gateway is None:
            self.gateway = self._first_free()
            self._used.add(int(self.gateway))
        return self.gateway

    def allocate(self, wanted: Address | None = None) -> Interface:
        """A free address, or the one that is wanted, with the subnet's prefix length.

        Raises `Forbidden("Address already in use")` for a wanted one that is taken, `InvalidParameter` for one outside the
        subnet, and `SystemFailure` when none is left.
        """
        if wanted is None:
            number = self._next()
        else:
            number = int(wanted)
            if wanted not in self.subnet:
                raise InvalidParameter("Requested address is out of range")
            if number in self._used or number in self._reserved():
                raise Forbidden("Address already in use")
        self._used.add(number)
        return self._interface(number)

    def claim(self, address: Interface) -> None:
        """Mark an address as used that was handed out by an earlier engine; the next ones come after it.

        Whoever got it again at once would not be reached: its neighbours remember the hardware address of who had it last.
        """
        self._used.add(int(address.ip))
        self._cursor = max(self._cursor, int(address.ip))

    def release(self, address: Interface) -> None:
        """Make an address free again. Idempotent; the gateway stays taken."""
        if address.ip != self.gateway:
            self._used.discard(int(address.ip))

    def status(self) -> dict[str, int]:
        """`SubnetStatus` of the API: addresses in use, reserved ones included, and how many can still be handed out."""
        reserved = self._reserved()
        first, last = int(self.range[0]), int(self.range[-1])
        taken = self._used | reserved
        free = last - first + 1 - sum(first <= number <= last for number in taken)
        return {"IPsInUse": min(len(taken), _COUNT_LIMIT), "DynamicIPsAvailable": min(free, _COUNT_LIMIT)}

    def _reserved(self) -> set[int]:
        """The network's and the broadcast address; IPv6's subnet-router anycast address."""
        bits = self.subnet.max_prefixlen - self.subnet.prefixlen
        if bits <= 1:
            return set()
        first = int(self.subnet.network_address)
        if self.subnet.version == 6:
            return {first}
        return {first, int(self.subnet.broadcast_address)}

    def _next(self) -> int:
        first, last = int(self.range[0]), int(self.range[-1])
        reserved = self._reserved()
        start = self._cursor + 1 if first <= self._cursor < last else first
        for low, high in ((start, last), (first, start - 1)):
            number = low
            while number <= high:
                if number not in self._used and number not in reserved:
                    self._cursor = number
                    return number
                number += 1
        raise SystemFailure(f"no available addresses in {self.range}")

    def _first_free(self) -> Address:
        number = int(self.range[0])
        reserved = self._reserved()
        while number in self._used or number in reserved:
            number += 1
        if number > int(self.range[-1]):
            raise SystemFailure(f"no available addresses in {self.range}")
        return _address(number, self.subnet.version)

    def _interface(self, number: int) -> Interface:
        address = _address(number, self.subnet.version)
        return ipaddress.ip_interface((address, self.subnet.prefixlen))


def _address(number: int, version: int) -> Address:
    return ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number)


def choose_subnet(pools: Sequence[tuple[str, int]], taken: Iterable[Subnet], version: int = 4) -> Subnet:
    """The first subnet of the pools that overlaps nothing in `taken` (default routes do not count).

    Raises `InvalidParameter` when there is none.
    """
    others = [subnet for subnet in taken if subnet.version == version and subnet.prefixlen > 0]
    for base, size in pools:
        pool = ipaddress.ip_network(base)
        if pool.version != version:
            continue
        step = 1 << (pool.max_prefixlen - size)
        number, end = int(pool[0]), int(pool[-1])
        while number <= end:
            candidate = ipaddress.ip_network((_address(number, version), size))
            hit = next((subnet for subnet in others if _overlap(candidate, subnet)), None)
            if hit is None:
                return candidate
            beyond = max(int(hit[-1]), int(candidate[-1])) + 1
            number = -(-beyond // step) * step
    raise InvalidParameter("all predefined address pools have been fully subnetted")


def check_overlap(subnet: Subnet, others: Iterable[Subnet]) -> None:
    """Raise `Forbidden` in dockerd's words when a subnet overlaps one of another network."""
    if any(_overlap(subnet, other) for other in others):
        raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")


def _overlap(one: Subnet, other: Subnet) -> bool:
    return one.version == other.version and cast(ipaddress.IPv4Network, one).overlaps(
        cast(ipaddress.IPv4Network, other)
    )


def local_prefix(seed: str) -> tuple[str, int]:
    """A pool of unique local IPv6 subnets (RFC 4193), the same for the same seed."""
    prefix = b"\xfd" + hashlib.sha256(seed.encode()).digest()[:5]
    return f"{ipaddress.IPv6Address(prefix + bytes(10))}/48", 64
