"""What the engine wants of the packet filter, as nft's language. Pure functions.

One table of the inet family per engine, of this shape::

    maps   ports4, ports6          (address, protocol, port) → (container address, port)   published on one host address
           ports4_any, ports6_any  (protocol, port) → (container address, port)            published on all of them
    sets   open4, open6            (container address, protocol, port)                      what may be entered from outside
           bridges                 interface names
    chains loopback     prerouting, raw: nobody reaches 127.0.0.0/8 through a bridge (route_localnet is on there)
           prerouting, output → published       DNAT of packets to an address of this machine
           postrouting  masquerade: out of a bridge, from 127.0.0.1 into one, and back into the bridge it came from
           forward      what may cross between a bridge and anything else

A container's port costs one element in a map and one in a set, not rules: the chains change with networks only. Direct routing to a
container's address from outside is dropped, as current Docker does: only what a published port has translated enters a bridge.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sampan.firewall.nftables import quote

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class BridgeRules:
    """What one bridge network asks of the filter."""

    interface: str
    subnets: tuple[Subnet, ...]
    masquerade: bool = True
    icc: bool = True
    """Containers of the network may talk to each other."""
    internal: bool = False
    """Nothing enters or leaves."""
    mode4: str = "nat"
    """nat, nat-unprotected or routed (`com.docker.network.bridge.gateway_mode_ipv4`)."""
    mode6: str = "nat"
    direct: bool = False
    """Published ports may also be reached at the container's own address."""
    source4: str = ""
    """Address that outgoing packets carry instead of the interface's (`com.docker.network.host_ipv4`)."""
    source6: str = ""


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """One host address and port that lead to one container's port."""

    protocol: str
    """tcp, udp or sctp."""
    host: Address
    """Unspecified (0.0.0.0, ::): every address of the machine."""
    host_port: int
    container: Address
    """Of the same family as `host`."""
    port: int
    translated: bool = True
    """False: the port may be entered, but nothing is translated (routed networks)."""


@dataclass(frozen=True, slots=True)
class LinkRules:
    """A legacy link on a network without inter-container communication: these ports may be entered by this one container."""

    interface: str
    source: Address
    target: Address
    ports: tuple[tuple[str, int], ...]
    """(protocol, port)"""


_TABLE = """\
add table inet {table}
add set inet {table} bridges {{ type ifname; }}
add set inet {table} uplinks {{ type ifname; }}
add map inet {table} ports4 {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
add map inet {table} ports6 {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}
add map inet {table} ports4_any {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
add map inet {table} ports6_any {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
add set inet {table} open4 {{ type ipv4_addr . inet_proto . inet_service; }}
add set inet {table} open6 {{ type ipv6_addr . inet_proto . inet_service; }}
add chain inet {table} loopback {{ type filter hook prerouting priority -300; }}
add chain inet {table} prerouting {{ type nat hook prerouting priority -100; }}
add chain inet {table} output {{ type nat hook output priority -100; }}
add chain inet {table} postrouting {{ type nat hook postrouting priority 100; }}
add chain inet {table} forward {{ type filter hook forward priority 0; }}
add chain inet {table} published
flush chain inet {table} loopback
flush chain inet {table} prerouting
flush chain inet {table} output
flush chain inet {table} postrouting
flush chain inet {table} forward
flush chain inet {table} published
flush set inet {table} bridges
flush set inet {table} uplinks
"""

_FIXED_RULES = """\
add rule inet {table} loopback iifname @bridges ip daddr 127.0.0.0/8 drop
add rule inet {table} prerouting fib daddr type local jump published
add rule inet {table} output fib daddr type local jump published
add rule inet {table} published ip6 daddr ::1 return
add rule inet {table} published meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport map @ports4
add rule inet {table} published meta nfproto ipv6 dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6
add rule inet {table} published meta nfproto ipv4 dnat ip to meta l4proto . th dport map @ports4_any
add rule inet {table} published meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @ports6_any
"""


def remove_table(table: str) -> str:
    """Commands that take the table away, whether it is there or not."""
    return f"add table inet {table}\ndelete table inet {table}\n"


def ruleset(
    table: str,
    bridges: Sequence[BridgeRules],
    *,
    links: Iterable[LinkRules] = (),
    uplinks: Iterable[str] = (),
    accept_mark: str = "",
) -> str:
    """Commands that make the table, or replace its chains in one transaction; ports that are published stay.

    `uplinks` are physical interfaces that must not be routed between: the engine switched forwarding on for containers,
    not to make a router of the machine. `accept_mark` ("mark/mask") lets marked packets in.
    """
    lines = [_TABLE.format(table=table)]
    lines += _elements(table, "bridges", [bridge.interface for bridge in bridges])
    lines += _elements(table, "uplinks", list(uplinks))
    lines.append(_FIXED_RULES.format(table=table))
    for bridge in bridges:
        lines += [f"add rule inet {table} postrouting {rule}" for rule in _source_rules(bridge)]
    forward = [
        "iifname @uplinks oifname @uplinks drop",
        "iifname != @bridges oifname != @bridges accept",
        "ct state established,related accept",
    ]
    if accept_mark:
        mark, _, mask = accept_mark.partition("/")
        forward.append(f"meta mark & {mask or '0xffffffff'} == {mark} accept")
    forward += [rule for link in links for rule in _link_rules(link)]
    for bridge in bridges:
        forward += _inner_rules(bridge)
    forward += [
        "ct status dnat ip daddr . meta l4proto . th dport @open4 accept",
        "ct status dnat ip6 daddr . meta l4proto . th dport @open6 accept",
    ]
    for bridge in bridges:
        forward += _unprotected_rules(bridge)
    forward.append("oifname @bridges drop")
    lines += [f"add rule inet {table} forward {rule}" for rule in forward]
    return "\n".join(lines) + "\n"


def _elements(table: str, name: str, interfaces: Sequence[str]) -> list[str]:
    if not interfaces:
        return []
    return [f"add element inet {table} {name} {{ {', '.join(map(quote, interfaces))} }}"]


def _source_rules(bridge: BridgeRules) -> list[str]:
    """Postrouting: which source address packets of the network carry."""
    name = quote(bridge.interface)
    rules = [f"oifname {name} ip saddr 127.0.0.0/8 masquerade"]
    for subnet in bridge.subnets:
        family, mode, source = (
            ("ip", bridge.mode4, bridge.source4)
            if subnet.version == 4
            else ("ip6", bridge.mode6, bridge.source6)
        )
        if bridge.internal or mode == "routed":
            continue
        # The answer to a packet that came from the same bridge would otherwise go straight to its sender, which knows only
        # the published address.
        rules.append(f"oifname {name} {family} saddr {subnet} ct status dnat masquerade")
        if bridge.masquerade:
            change = f"snat {family} to {source}" if source else "masquerade"
            rules.append(f"{family} saddr {subnet} oifname != {name} {change}")
    return rules


def _inner_rules(bridge: BridgeRules) -> list[str]:
    """Forward: within the network, and the walls around an internal one."""
    name = quote(bridge.interface)
    rules = []
    if bridge.icc:
        rules.append(f"iifname {name} oifname {name} accept")
    else:
        rules.append(f"iifname {name} oifname {name} ct status & dnat == 0 drop")
    if bridge.internal:
        rules += [f"iifname {name} drop", f"oifname {name} drop"]
    return rules


def _unprotected_rules(bridge: BridgeRules) -> list[str]:
    """Forward: networks that are reached at the containers' own addresses."""
    name = quote(bridge.interface)
    rules = []
    for mode, family, protocol, icmp in (
        (bridge.mode4, "ip", "ipv4", "icmp"),
        (bridge.mode6, "ip6", "ipv6", "icmpv6"),
    ):
        if mode == "routed" or bridge.direct:
            opened = "@open4" if family == "ip" else "@open6"
            rules.append(f"oifname {name} {family} daddr . meta l4proto . th dport {opened} accept")
        if mode == "routed":
            rules.append(f"oifname {name} meta nfproto {protocol} meta l4proto {icmp} accept")
        if mode == "nat-unprotected":
            rules.append(f"oifname {name} meta nfproto {protocol} accept")
    return rules


def _link_rules(link: LinkRules) -> list[str]:
    name = quote(link.interface)
    family = "ip" if link.source.version == 4 else "ip6"
    way = f"iifname {name} oifname {name} {family} saddr {link.source} {family} daddr {link.target}"
    return [f"{way} meta l4proto {protocol} th dport {port} accept" for protocol, port in link.ports]


def add_ports(table: str, ports: Sequence[PublishedPort], opened: Iterable[PublishedPort]) -> str:
    """Commands that publish ports; `opened` are those whose container port nobody has opened yet."""
    return "".join(
        [f"add element inet {table} {_map_entry(port)}\n" for port in ports if port.translated]
        + [f"add element inet {table} {_open_entry(port)}\n" for port in opened]
    )


def remove_ports(table: str, ports: Sequence[PublishedPort], closed: Iterable[PublishedPort]) -> str:
    """Commands that undo `add_ports`."""
    return "".join(
        [f"delete element inet {table} {_map_entry(port)}\n" for port in ports if port.translated]
        + [f"delete element inet {table} {_open_entry(port)}\n" for port in closed]
    )


def flush_ports(table: str) -> str:
    """Commands that forget every published port."""
    names = [("map", "ports4"), ("map", "ports6"), ("map", "ports4_any"), ("map", "ports6_any")]
    names += [("set", "open4"), ("set", "open6")]
    return "".join(f"flush {kind} inet {table} {name}\n" for kind, name in names)


def _map_entry(port: PublishedPort) -> str:
    version = port.host.version
    key, name = f"{port.protocol} . {port.host_port}", f"ports{version}_any"
    if not port.host.is_unspecified:
        key, name = f"{port.host} . {key}", f"ports{version}"
    return f"{name} {{ {key} : {port.container} . {port.port} }}"


def _open_entry(port: PublishedPort) -> str:
    return f"open{port.container.version} {{ {port.container} . {port.protocol} . {port.port} }}"
