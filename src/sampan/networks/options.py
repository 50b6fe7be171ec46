"""What the engine's configuration says about networks, as the network service takes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_DEFAULT_ROOT = "/var/lib/sampan"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """Names and meanings are those of dockerd's flags; the defaults too."""

    data_root: Path
    """Names this engine: its bridge, its tables and its marks in foreign chains are derived from it."""
    bridge: str = ""
    """Interface of the network `bridge`: an existing one, which stays when the engine goes; together with `bip` (which dockerd
    refuses) the name of one that the engine makes and removes. `none` disables that network."""
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    default_gateway: str = ""
    default_gateway_v6: str = ""
    default_address_pools: tuple[tuple[str, int], ...] = ()
    """(base, prefix length of the networks cut from it)"""
    default_network_opts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    host_gateway_ips: tuple[str, ...] = ()
    icc: bool = True
    ip: str = "0.0.0.0"
    ip_forward: bool = True
    ip_forward_no_drop: bool = False
    ip_masq: bool = True
    iptables: bool = True
    ip6tables: bool = True
    ipv6: bool = False
    mtu: int = 1500
    allow_direct_routing: bool = False
    bridge_accept_fwmark: str = ""
    userland_proxy: bool = True

    @property
    def mark(self) -> str:
        """Eight hex digits that tell this engine from others on the machine."""
        return hashlib.sha256(str(self.data_root).encode()).hexdigest()[:8]

    @property
    def link_mark(self) -> str:
        """The alias of every link that this engine makes on the host: what a start after kill -9 knows them by."""
        return f"sampan-{self.mark}"

    @property
    def default_bridge(self) -> str:
        """Interface of the network `bridge`: `sampan0` for the engine at the standard place, another for each further one."""
        if self.bridge:
            return self.bridge
        return "sampan0" if str(self.data_root) == _DEFAULT_ROOT else f"sampan-{self.mark}"
