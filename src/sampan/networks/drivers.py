"""Driver options of networks, parsed and checked in dockerd's words, and what they mean for the host.

Drivers are bridge, macvlan, ipvlan, host and null; the last two have no options and one network each.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from sampan.errors import Forbidden, InvalidParameter
from sampan.firewall.rules import BridgeRules
from sampan.names.booleans import word_for
from sampan.netlink.links import IPVLAN_FLAGS, IPVLAN_MODES, MACVLAN_MODES
from sampan.networks.bridge import BridgePlan, check_name
from sampan.networks.ipam import Interface
from sampan.networks.model import NetworkRecord, NetworkState
from sampan.networks.options import NetworkOptions

BRIDGE_NAME = "com.docker.network.bridge.name"
DEFAULT_BRIDGE = "com.docker.network.bridge.default_bridge"
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
GATEWAY_MODE_4 = "com.docker.network.bridge.gateway_mode_ipv4"
GATEWAY_MODE_6 = "com.docker.network.bridge.gateway_mode_ipv6"
HOST_IPV4 = "com.docker.network.host_ipv4"
HOST_IPV6 = "com.docker.network.host_ipv6"
MTU = "com.docker.network.driver.mtu"
PREFIX = "com.docker.network.container_iface_prefix"

DRIVERS = ("bridge", "host", "ipvlan", "macvlan", "null")
_GATEWAY_MODES = ("nat", "nat-unprotected", "routed", "isolated")


def boolean(options: Mapping[str, str], name: str, default: bool) -> bool:
    """A boolean option as Go's ParseBool reads it. Raises `InvalidParameter`."""
    text = options.get(name)
    if text is None:
        return default
    value = word_for(text)
    if value is not None:
        return value
    raise InvalidParameter(
        f'failed to parse {name} value: {text} (strconv.ParseBool: parsing "{text}": invalid syntax)'
    )


def is_address(text: str) -> bool:
    """Whether the text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def mtu(options: Mapping[str, str]) -> int | None:
    """The MTU option in bytes; None leaves the kernel's default. Raises `InvalidParameter`."""
    text = options.get(MTU)
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise InvalidParameter(
            f'failed to parse {MTU} value: {text} (strconv.Atoi: parsing "{text}": invalid syntax)'
        )
    if not 68 <= int(text) <= 65535:
        raise InvalidParameter(f"invalid MTU number: {text}")
    return int(text)


def check_options(driver: str, options: Mapping[str, str], internal: bool) -> None:
    """Raise `InvalidParameter` for options that the driver cannot understand, `Forbidden` for drivers with one network only."""
    if driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    mtu(options)
    if driver == "bridge":
        boolean(options, ICC, True)
        boolean(options, MASQUERADE, True)
        if (address := options.get(HOST_BINDING)) and not is_address(address):
            raise InvalidParameter(f"failed to parse {HOST_BINDING} value: {address} (nil ip)")
        if BRIDGE_NAME in options:
            check_name(options[BRIDGE_NAME])
        for name in (GATEWAY_MODE_4, GATEWAY_MODE_6):
            mode = options.get(name, "nat")
            if mode not in _GATEWAY_MODES:
                raise InvalidParameter(f'unknown gateway mode "{mode}" for option {name}')
            if mode == "isolated" and not internal:
                raise InvalidParameter(
                    f"gateway mode 'isolated' can only be used for an internal network ({name})"
                )
    elif driver == "macvlan":
        _one_of(options, "macvlan_mode", MACVLAN_MODES, "bridge")
    elif driver == "ipvlan":
        _one_of(options, "ipvlan_mode", IPVLAN_MODES, "l2")
        _one_of(options, "ipvlan_flag", IPVLAN_FLAGS, "bridge")


def _one_of(options: Mapping[str, str], name: str, known: Mapping[str, int], default: str) -> None:
    driver, _, what = name.partition("_")
    value = options.get(name, default)
    if value not in known:
        raise InvalidParameter(
            f"requested {driver} {what} '{value}' is not valid, '{default}' {what} is the {driver} driver default"
        )


def has_gateway_address(record: NetworkRecord, version: int) -> bool:
    """True when the host has an address on the network's bridge."""
    if record.driver != "bridge":
        return False
    mode = record.options.get(GATEWAY_MODE_4 if version == 4 else GATEWAY_MODE_6, "nat")
    return mode != "isolated"


def bridge_plan(state: NetworkState, options: NetworkOptions) -> BridgePlan:
    """The host's side of a bridge network."""
    addresses: list[Interface] = [
        ipaddress.ip_interface((pool.gateway, pool.subnet.prefixlen))
        for pool in state.pools
        if pool.gateway is not None and has_gateway_address(state.record, pool.subnet.version)
    ]
    return BridgePlan(
        interface=state.record.interface,
        addresses=tuple(addresses),
        mac=state.record.mac,
        mtu=mtu(state.record.options),
        route_localnet=options.iptables,
        icc=boolean(state.record.options, ICC, True),
        mark=options.link_mark if state.record.owned else "",
    )


def bridge_rules(states: Sequence[NetworkState], options: NetworkOptions) -> list[BridgeRules]:
    """What all bridge networks ask of the packet filter."""
    found = []
    for state in states:
        record = state.record
        if record.driver != "bridge" or record.config_only:
            continue
        subnets = tuple(pool.subnet for pool in state.pools if pool.subnet.version == 4 or options.ip6tables)
        found.append(
            BridgeRules(
                interface=record.interface,
                subnets=subnets,
                masquerade=boolean(record.options, MASQUERADE, True),
                icc=boolean(record.options, ICC, True),
                internal=record.internal,
                mode4=record.options.get(GATEWAY_MODE_4, "nat"),
                mode6=record.options.get(GATEWAY_MODE_6, "nat"),
                direct=options.allow_direct_routing,
                source4=record.options.get(HOST_IPV4, ""),
                source6=record.options.get(HOST_IPV6, ""),
            )
        )
    return found
