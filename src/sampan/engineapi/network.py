"""Types of the Engine API's network requests and answers: networks, IPAM, a container's endpoints.

Lists and maps are optional where Docker prints null for nothing and `[]` for empty, and clients compare.
Source: the Engine API definition, v1.24 to v1.56, `Network`, `EndpointSettings`, `IPAM`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field


class IPAMConfig(Struct, rename="pascal"):
    """One address pool of a network, in CIDR notation and plain addresses."""

    subnet: str = ""
    ip_range: str = field(name="IPRange", default="")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class IPAM(Struct, rename="pascal"):
    """Where a network's addresses come from."""

    driver: str = ""
    options: dict[str, str] | None = None
    config: list[IPAMConfig] | None = None


class ConfigReference(Struct, rename="pascal"):
    """Name of the config-only network that another network copies."""

    network: str = ""


class NetworkCreateRequest(Struct, rename="pascal", kw_only=True):
    """Body of POST /networks/create."""

    name: str = ""
    check_duplicate: bool = False
    """Sent by clients up to API 1.43; names are always unique."""
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | None = field(name="EnableIPv4", default=None)
    enable_ipv6: bool | None = field(name="EnableIPv6", default=None)
    ipam: IPAM | None = field(name="IPAM", default=None)
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class EndpointIPAMConfig(Struct, rename="pascal"):
    """Addresses that the user asked for."""

    ipv4_address: str = field(name="IPv4Address", default="")
    ipv6_address: str = field(name="IPv6Address", default="")
    link_local_ips: list[str] | None = field(name="LinkLocalIPs", default=None)


class EndpointSettings(Struct, rename="pascal", kw_only=True):
    """A container's place on one network: what was asked for, and, while the container runs, what it has."""

    ipam_config: EndpointIPAMConfig | None = field(name="IPAMConfig", default=None)
    links: list[str] | None = None
    aliases: list[str] | None = None
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = field(name="NetworkID", default="")
    endpoint_id: str = field(name="EndpointID", default="")
    gateway: str = ""
    ip_address: str = field(name="IPAddress", default="")
    mac_address: str = ""
    """In a request the address asked for, in an answer the present one."""
    ip_prefix_len: int = field(name="IPPrefixLen", default=0)
    ipv6_gateway: str = field(name="IPv6Gateway", default="")
    global_ipv6_address: str = field(name="GlobalIPv6Address", default="")
    global_ipv6_prefix_len: int = field(name="GlobalIPv6PrefixLen", default=0)
    dns_names: list[str] | None = field(name="DNSNames", default=None)


class ConnectRequest(Struct, rename="pascal"):
    """Body of POST /networks/{id}/connect."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class DisconnectRequest(Struct, rename="pascal"):
    """Body of POST /networks/{id}/disconnect."""

    container: str = ""
    force: bool = False


class EndpointResource(Struct, rename="pascal"):
    """A running container as `network inspect` shows it; addresses carry their prefix length."""

    name: str
    endpoint_id: str = field(name="EndpointID")
    mac_address: str = ""
    ipv4_address: str = field(name="IPv4Address", default="")
    ipv6_address: str = field(name="IPv6Address", default="")


class Network(Struct, rename="pascal", kw_only=True):
    """A network as the API prints it; `containers` is filled for inspect only."""

    name: str
    id: str
    created: str
    """RFC 3339 with nanoseconds."""
    scope: str = "local"
    driver: str
    enable_ipv4: bool = field(name="EnableIPv4", default=True)
    enable_ipv6: bool = field(name="EnableIPv6", default=False)
    ipam: IPAM = field(name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_from: ConfigReference = field(default_factory=ConfigReference)
    config_only: bool = False
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    containers: dict[str, EndpointResource] | None = None
    status: dict[str, Any] | None = None
    """IPAM figures, API 1.52 and newer."""


def wire_network(network: Network, version: tuple[int, int], *, inspect: bool) -> dict[str, Any]:
    """The network as dockerd prints it: for `inspect` (and in lists before 1.28) with its containers, since API 1.52 with IPAM
    figures.
    """
    built: dict[str, Any] = msgspec.to_builtins(network)
    for pool in built["IPAM"]["Config"] or ():
        for optional in ("IPRange", "Gateway", "AuxiliaryAddresses"):
            if not pool[optional]:
                del pool[optional]
    if inspect or version < (1, 28):
        built["Containers"] = built["Containers"] or {}
    else:
        del built["Containers"]
    if not inspect or version < (1, 52) or built["Status"] is None:
        del built["Status"]
    return built


def wire_endpoint(endpoint: EndpointSettings, version: tuple[int, int]) -> dict[str, Any]:
    """The endpoint as `docker inspect` prints it at that API version."""
    built: dict[str, Any] = msgspec.to_builtins(endpoint)
    if version < (1, 48):
        del built["GwPriority"]
    if version < (1, 44):
        del built["DNSNames"]
    if built["IPAMConfig"] is not None:
        built["IPAMConfig"] = {name: value for name, value in built["IPAMConfig"].items() if value}
    return built
