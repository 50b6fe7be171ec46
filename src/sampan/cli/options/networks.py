"""`--network` and the flags that describe its endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Attachment = tuple[str, "dict[str, Any]"]
_PREDEFINED = ("default", "bridge", "host", "none")


def networking(flags: Mapping[str, Any]) -> tuple[str, dict[str, dict[str, Any]]]:
    """(NetworkMode, EndpointsConfig). The endpoint flags (`--ip`, `--network-alias`, …) belong to the first network."""
    attachments: Sequence[Attachment] = flags["network"] or [("default", {})]
    mode, first = attachments[0]
    _apply_flags(first, mode, flags)
    endpoints: dict[str, dict[str, Any]] = {}
    for name, endpoint in attachments:
        if not name:
            raise InvalidParameter("no name set for network")
        if name in endpoints:
            raise InvalidParameter(f'network "{name}" is specified multiple times')
        endpoints[name] = endpoint
    if len({_user_defined(name) for name in endpoints}) == 2:
        raise InvalidParameter(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        )
    if mode.startswith("container:"):
        endpoints = {}
    return mode, endpoints


def _user_defined(name: str) -> bool:
    return name not in _PREDEFINED and not name.startswith("container:")


def attachment(spec: str) -> Attachment:
    """`NAME`, or `name=NAME,alias=…,ip=…,driver-opt=…`: the name, and the API's EndpointSettings."""
    if "=" not in spec:
        return spec, {}
    import csv

    name, endpoint = "", {}  # type: str, dict[str, Any]
    try:
        fields = next(csv.reader([spec]), [])
    except csv.Error as error:
        raise InvalidParameter(f"invalid network {spec!r}: {error}") from None
    for field in fields:
        key, separator, value = field.partition("=")
        key, value = key.strip().lower(), value.strip()
        if not separator:
            raise InvalidParameter(f"invalid field {field}")
        if key == "name":
            name = value
        elif key == "alias":
            endpoint.setdefault("Aliases", []).append(value)
        elif key == "ip":
            endpoint.setdefault("IPAMConfig", {})["IPv4Address"] = value
        elif key == "ip6":
            endpoint.setdefault("IPAMConfig", {})["IPv6Address"] = value
        elif key == "link-local-ip":
            endpoint.setdefault("IPAMConfig", {}).setdefault("LinkLocalIPs", []).append(value)
        elif key == "mac-address":
            endpoint["MacAddress"] = value
        elif key == "driver-opt":
            option, _, text = value.partition("=")
            endpoint.setdefault("DriverOpts", {})[option] = text
        elif key == "gw-priority":
            endpoint["GwPriority"] = _priority(value)
        else:
            raise InvalidParameter(f"invalid field key {key}")
    if not name:
        raise InvalidParameter(f"network name is missing in {spec!r}")
    return name, endpoint


def _priority(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidParameter(f"invalid gw-priority ({text}): not an integer") from None


def _apply_flags(endpoint: dict[str, Any], mode: str, flags: Mapping[str, Any]) -> None:
    aliases: Sequence[str] = flags["network_alias"]
    if (aliases or flags["ip"] or flags["ip6"]) and mode.startswith("container:"):
        raise InvalidParameter(
            "conflicting options: cannot attach an alias or address to another container's network"
        )
    if aliases:
        endpoint["Aliases"] = [*endpoint.get("Aliases", []), *aliases]
    for key, value in (("IPv4Address", flags["ip"]), ("IPv6Address", flags["ip6"])):
        if value:
            endpoint.setdefault("IPAMConfig", {})[key] = value
    if flags["link_local_ip"]:
        endpoint.setdefault("IPAMConfig", {})["LinkLocalIPs"] = list(flags["link_local_ip"])
    if flags["mac_address"]:
        endpoint["MacAddress"] = flags["mac_address"]
    if flags["link"] and mode not in _PREDEFINED:
        endpoint["Links"] = list(flags["link"])


def read_address_options(
    subnets: Sequence[str], ranges: Sequence[str], gateways: Sequence[str], auxiliary: Mapping[str, str]
) -> list[dict[str, Any]]:
    """`network create`'s IPAM flags as the API's pools: each range, gateway and address goes to the subnet that holds it."""
    pools: dict[str, dict[str, Any]] = {subnet: {"Subnet": subnet} for subnet in subnets}
    for text in ranges:
        _pool_of(text, pools, f"no matching subnet for range {text}")["IPRange"] = text
    for text in gateways:
        _pool_of(text, pools, f"no matching subnet for gateway {text}")["Gateway"] = text
    for name, text in auxiliary.items():
        pool = _pool_of(text, pools, f"no matching subnet for aux-address {text}")
        pool.setdefault("AuxiliaryAddresses", {})[name] = text
    return list(pools.values())


def _pool_of(text: str, pools: Mapping[str, dict[str, Any]], message: str) -> dict[str, Any]:
    import ipaddress

    try:
        address = ipaddress.ip_interface(text).ip
        for subnet, pool in pools.items():
            if address in ipaddress.ip_network(subnet, strict=False):
                return pool
    except ValueError as error:
        raise InvalidParameter(f"invalid CIDR address: {error}") from None
    raise InvalidParameter(message)
