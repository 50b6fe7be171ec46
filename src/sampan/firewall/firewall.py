"""The engine's packet filter: what is wanted is kept here, and the kernel is made to have it.

Synchronous; used on the network thread only.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from sampan.firewall import foreign, rules
from sampan.firewall.nftables import Nftables
from sampan.firewall.rules import BridgeRules, LinkRules, PublishedPort

_Opened = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, str, int]


class Firewall:
    """One engine's rules. Several engines differ by their data roots, hence by table names and comments."""

    def __init__(self, data_root: Path, *, uplinks: Iterable[str] = (), accept_mark: str = "") -> None:
        """Nothing happens yet. Raises `FirewallError` when libnftables is missing."""
        self.table = f"sampan-{hashlib.sha256(str(data_root).encode()).hexdigest()[:8]}"
        self._nft = Nftables()
        self._bridges: list[BridgeRules] = []
        self._links: list[LinkRules] = []
        self._uplinks = list(uplinks)
        self._accept_mark = accept_mark
        self._opened: Counter[_Opened] = Counter()

    def reset(self, bridges: Sequence[BridgeRules], ports: Sequence[PublishedPort]) -> None:
        """Make the table hold exactly these, in one transaction, whatever an earlier engine has left in it."""
        self._bridges = list(bridges)
        self._links = []
        self._opened.clear()
        opened = self._open(ports)
        text = self._ruleset() + rules.flush_ports(self.table) + rules.add_ports(self.table, ports, opened)
        self._nft.run(text)
        self._reconcile()

    def set_bridges(self, bridges: Sequence[BridgeRules]) -> None:
        """Other networks; ports that are published stay."""
        self._bridges = list(bridges)
        self._nft.run(self._ruleset())
        self._reconcile()

    def set_links(self, links: Sequence[LinkRules]) -> None:
        """Other legacy links between containers of networks without inter-container communication."""
        self._links = list(links)
        self._nft.run(self._ruleset())

    def publish(self, ports: Sequence[PublishedPort]) -> None:
        """Let ports lead to a container: all or none."""
        if not ports:
            return
        opened = self._open(ports)
        try:
            self._nft.run(rules.add_ports(self.table, ports, opened))
        except Exception:
            self._close(ports)
            raise

    def withdraw(self, ports: Sequence[PublishedPort]) -> None:
        """Undo `publish`."""
        if ports:
            self._nft.run(rules.remove_ports(self.table, ports, self._close(ports)))

    def stand_again(self, ports: Sequence[PublishedPort]) -> None:
        """As before, after somebody has removed the table. `ports`: all that are published."""
        links = self._links
        self.reset(self._bridges, ports)
        if links:
            self.set_links(links)

    def mend(self) -> None:
        """After others have changed their filters: what of ours has to be in them is there again."""
        self._reconcile()

    def remove(self) -> None:
        """Take everything of this engine out of the kernel, foreign chains included."""
        self._bridges = []
        self._reconcile()
        self._nft.run(rules.remove_table(self.table))

    def close(self) -> None:
        """Leave the rules and forget them."""
        self._nft.close()

    def _ruleset(self) -> str:
        return rules.ruleset(
            self.table, self._bridges, links=self._links, uplinks=self._uplinks, accept_mark=self._accept_mark
        )

    def _reconcile(self) -> None:
        foreign.reconcile(self._nft, [bridge.interface for bridge in self._bridges], self.table)

    def _open(self, ports: Sequence[PublishedPort]) -> list[PublishedPort]:
        """Count the ports' users; those that had none."""
        fresh = []
        for port in ports:
            key = (port.container, port.protocol, port.port)
            if not self._opened[key]:
                fresh.append(port)
            self._opened[key] += 1
        return fresh

    def _close(self, ports: Sequence[PublishedPort]) -> list[PublishedPort]:
        """Count down; those that have no user any more."""
        last = []
        for port in ports:
            key = (port.container, port.protocol, port.port)
            self._opened[key] -= 1
            if self._opened[key] <= 0:
                del self._opened[key]
                last.append(port)
        return last
