"""Who is called what on which network: the knowledge that the resolver answers from. In memory, used on the engine's loop.

A container sees the names of the networks that it is on, in the order of its own endpoints, and besides them the aliases
of its links, which are nobody else's. A name may be followed by the network's: `web` and `web.backend` are the same there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(slots=True)
class _Zone:
    """One network's names; several containers may share an alias."""

    name: str
    holders: dict[str, dict[str, list[Address]]] = field(default_factory=dict)
    """Lower-case name → container → addresses."""
    owners: dict[Address, str] = field(default_factory=dict)
    """Address → the name that a reverse lookup gives."""
    names: dict[str, tuple[list[str], list[Address]]] = field(default_factory=dict)
    """Container → what it registered."""


class Directory:
    """Names of all user-defined networks."""

    def __init__(self) -> None:
        self._zones: dict[str, _Zone] = {}
        self._links: dict[tuple[str, str], dict[str, str]] = {}

    def register(
        self,
        network: str,
        network_name: str,
        container: str,
        names: Sequence[str],
        addresses: Iterable[Address],
    ) -> None:
        """Let a container be found on a network (by id) under its names; the first is what reverse lookups answer."""
        self.unregister(network, container)
        zone = self._zones.setdefault(network, _Zone(network_name))
        found = list(addresses)
        lowered = [name.lower() for name in names]
        zone.names[container] = (lowered, found)
        for name in lowered:
            zone.holders.setdefault(name, {})[container] = found
        for address in found:
            zone.owners[address] = names[0] if names else container[:12]

    def unregister(self, network: str, container: str) -> None:
        """Forget a container on a network. Idempotent."""
        zone = self._zones.get(network)
        if zone is None or container not in zone.names:
            return
        names, addresses = zone.names.pop(container)
        for name in names:
            holders = zone.holders.get(name, {})
            holders.pop(container, None)
            if not holders:
                zone.holders.pop(name, None)
        for address in addresses:
            zone.owners.pop(address, None)
        if not zone.names:
            del self._zones[network]

    def link(self, network: str, container: str, aliases: dict[str, str]) -> None:
        """Aliases that one container alone uses on a network: alias → name of the target there. {} forgets them."""
        if aliases:
            self._links[network, container] = {alias.lower(): name for alias, name in aliases.items()}
        else:
            self._links.pop((network, container), None)

    def lookup(self, container: str, networks: Sequence[str], name: str) -> list[Address] | None:
        """All addresses that a container sees under a name, of both families; None when nobody is called so."""
        wanted = name.rstrip(".").lower()
        for network in networks:
            zone = self._zones.get(network)
            if zone is None:
                continue
            for candidate in _within(wanted, zone.name):
                candidate = self._links.get((network, container), {}).get(candidate, candidate).lower()
                holders = zone.holders.get(candidate)
                if holders:
                    return [address for addresses in holders.values() for address in addresses]
        return None

    def reverse(self, networks: Sequence[str], address: Address) -> str | None:
        """The full name of who has an address on one of the networks."""
        for network in networks:
            zone = self._zones.get(network)
            if zone is not None and address in zone.owners:
                return f"{zone.owners[address]}.{zone.name}"
        return None


def _within(name: str, zone: str) -> list[str]:
    """The name as it may be registered: itself, and without the network's name behind it."""
    suffix = "." + zone.lower()
    return [name, name.removesuffix(suffix)] if name.endswith(suffix) else [name]
