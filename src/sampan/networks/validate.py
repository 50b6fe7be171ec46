"""What a request may ask for, in dockerd's words. Pure.

Source: the API's observable answers (dockerd 28); several faults are reported together, one a line.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from sampan.engineapi.network import IPAM, EndpointIPAMConfig, EndpointSettings, IPAMConfig
from sampan.errors import InvalidParameter

PREDEFINED = frozenset({"bridge", "host", "none", "default"})

SYSCTLS = "com.docker.network.endpoint.sysctls"
INTERFACE_NAME = "com.docker.network.endpoint.ifname"

_MAC = re.compile(r"[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2}){4}")


def is_user_defined(name: str) -> bool:
    """True for a network that is none of the predefined ones."""
    return name not in PREDEFINED


def check_ipam(ipam: IPAM | None, ipv6: bool) -> None:
    """Raise `InvalidParameter` naming every fault of a network's address configuration."""
    faults: list[str] = []
    for config in (ipam.config if ipam else None) or ():
        faults += _pool_faults(config, ipv6)
    if faults:
        raise InvalidParameter("invalid network config:\n" + _listed(faults))


def _pool_faults(config: IPAMConfig, ipv6: bool) -> list[str]:
    subnet = _prefix(config.subnet)
    if subnet is None:
        return [f"invalid subnet {config.subnet}: invalid CIDR block notation"]
    if subnet.version == 6 and not ipv6:
        return []
    faults = []
    if subnet.ip != subnet.network.network_address:
        faults.append(f"invalid subnet {config.subnet}: it should be {subnet.network}")
    faults += _range_faults(config.ip_range, subnet)
    if fault := _address_fault(config.gateway, subnet):
        faults.append(f"invalid gateway {config.gateway}: {fault}")
    for name, address in (config.auxiliary_addresses or {}).items():
        if fault := _address_fault(address, subnet):
            faults.append(f"invalid auxiliary address {name}: {fault}")
    return faults


def _range_faults(text: str, subnet: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> list[str]:
    if not text:
        return []
    prefix = _prefix(text)
    if prefix is None:
        return [f"invalid ip-range {text}: invalid CIDR block notation"]
    if prefix.version != subnet.version:
        return [f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block"]
    faults = []
    if prefix.network.prefixlen < subnet.network.prefixlen:
        faults.append(f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}")
    if prefix.ip != prefix.network.network_address:
        faults.append(f"invalid ip-range {text}: it should be {prefix.network}")
    if prefix.ip not in subnet.network and subnet.ip not in prefix.network:
        faults.append(f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range")
    return faults


def _address_fault(text: str, subnet: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> str:
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "invalid address"
    if address.version != subnet.version:
        return f"parent subnet is an IPv{subnet.version} block"
    return "" if address in subnet.network else f"parent subnet {subnet} doesn't contain this address"


def _prefix(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    address, slash, bits = text.partition("/")
    if not slash or not bits.isascii() or not bits.isdigit():
        return None
    try:
        return ipaddress.ip_interface(f"{address}/{bits}")
    except ValueError:
        return None


def check_endpoint(settings: EndpointSettings, name: str, pools: Iterable[IPAMConfig] | None) -> None:
    """Raise `InvalidParameter` naming every fault of an endpoint's settings.

    `pools` are the pools that the network's user configured ([] for none); None when the network does not exist yet.
    """
    faults: list[str] = []
    ipam = settings.ipam_config or EndpointIPAMConfig()
    wanted = [text for text in (ipam.ipv4_address, ipam.ipv6_address) if text]
    if not is_user_defined(name):
        if wanted:
            faults.append("user-specified IP address is supported on user-defined networks only")
        if settings.aliases:
            faults.append("network-scoped aliases are only supported for user-defined networks")
    faults += _wanted_faults(ipam, pools)
    if settings.mac_address and not _MAC.fullmatch(settings.mac_address):
        raise InvalidParameter(f"invalid MAC address {settings.mac_address}")
    faults += _sysctl_faults((settings.driver_opts or {}).get(SYSCTLS, ""))
    if faults:
        raise InvalidParameter("invalid endpoint settings:\n" + _listed(faults))


def _listed(faults: Sequence[str]) -> str:
    """One fault as it is, several as a list."""
    return faults[0] if len(faults) == 1 else "\n".join(f"* {fault}" for fault in faults)


def _wanted_faults(ipam: EndpointIPAMConfig, pools: Iterable[IPAMConfig] | None) -> list[str]:
    faults = []
    configured = None if pools is None else list(pools)
    for version, text in ((4, ipam.ipv4_address), (6, ipam.ipv6_address)):
        if not text:
            continue
        address = _parse(text)
        if address is None or address.version != version or address.is_unspecified:
            faults.append(f"invalid IPv{version} address: {text}")
        if (
            address is not None
            and configured is not None
            and (fault := _outside(address, configured, version))
        ):
            faults.append(fault)
    for text in ipam.link_local_ips or ():
        address = _parse(text)
        if address is None or address.is_unspecified:
            faults.append(f"invalid link-local IP address: {text}")
    return faults


def _outside(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, pools: Sequence[IPAMConfig], version: int
) -> str:
    subnets = [ipaddress.ip_network(pool.subnet) for pool in pools if pool.subnet]
    subnets = [subnet for subnet in subnets if subnet.version == version]
    if any(address in subnet for subnet in subnets):
        return ""
    return f"no configured subnet contains IP address {address}"


def _sysctl_faults(text: str) -> list[str]:
    faults = []
    for sysctl in text.split(",") if text else ():
        parts = sysctl.split(".", 4)
        if (
            len(parts) != 5
            or parts[1] not in ("ipv4", "ipv6", "mpls")
            or parts[3] not in ("IFNAME", "ifname")
        ):
            faults.append(
                f"unrecognised network interface sysctl '{sysctl}'; represent 'net.X.Y.ethN.Z=V' as"
                " 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            )
    return faults


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
