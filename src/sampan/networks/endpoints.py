"""Endpoints: what a container is to have on each of its networks, worked out before anything is done. Mostly pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from sampan.engineapi.network import EndpointResource, EndpointSettings
from sampan.errors import InvalidParameter, SystemFailure
from sampan.names.names import new_id, truncate_id
from sampan.networks import drivers
from sampan.networks.interface import ContainerName
from sampan.networks.ipam import Address, Interface
from sampan.networks.model import Endpoint, NetworkState
from sampan.networks.sandbox import DefaultRoute, InterfacePlan, new_link_name, new_mac
from sampan.networks.validate import INTERFACE_NAME, is_user_defined

_OPERATIONAL = {
    "network_id": "",
    "endpoint_id": "",
    "gateway": "",
    "ip_address": "",
    "ip_prefix_len": 0,
    "ipv6_gateway": "",
    "global_ipv6_address": "",
    "global_ipv6_prefix_len": 0,
}


def configuration(settings: EndpointSettings) -> EndpointSettings:
    """Only what the user asked for, without what an earlier run has filled in."""
    return msgspec.structs.replace(settings, **_OPERATIONAL)


def dns_names(container: ContainerName, settings: EndpointSettings) -> list[str]:
    """What a container is called on a user-defined network, in dockerd's order, each once."""
    names = [container.name, *(settings.aliases or ()), truncate_id(container.id), container.hostname]
    return list(dict.fromkeys(name for name in names if name))


def check_combination(networks: Sequence[NetworkState]) -> None:
    """Raise `InvalidParameter` for networks that cannot be had together."""
    if len(networks) < 2:
        return
    if any(network.record.driver == "host" for network in networks):
        raise InvalidParameter(
            "container sharing network namespace with another container or host cannot be connected to any other network"
        )
    if any(network.record.driver == "null" for network in networks):
        raise InvalidParameter(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )


def allocate(
    network: NetworkState, container: ContainerName, settings: EndpointSettings, taken: Iterable[str]
) -> Endpoint:
    """An endpoint with addresses, a MAC address and interface names; `taken` are the container's interfaces of now.

    Raises as `AddressPool.allocate`; nothing is held then.
    """
    endpoint = Endpoint(network, new_id())
    if is_user_defined(network.name):
        endpoint.network_names = dns_names(container, settings)
    if network.record.driver in ("host", "null"):
        return endpoint
    endpoint.interface = _interface_name(network, settings, set(taken))
    if network.record.driver == "bridge":
        endpoint.host_name = new_link_name()
    if network.record.driver != "ipvlan":
        endpoint.mac = (settings.mac_address or new_mac()).lower().replace("-", ":")
    wanted = settings.ipam_config
    endpoint.link_local = _link_local(wanted.link_local_ips or () if wanted else ())
    try:
        v4 = _take(network, 4, wanted.ipv4_address if wanted else "")
        endpoint.v4 = v4 if isinstance(v4, ipaddress.IPv4Interface) else None
        v6 = _take(network, 6, wanted.ipv6_address if wanted else "")
        endpoint.v6 = v6 if isinstance(v6, ipaddress.IPv6Interface) else None
    except BaseException:
        network.release(endpoint)
        raise
    return endpoint


def _link_local(texts: Iterable[str]) -> tuple[Interface, ...]:
    """Of 169.254.0.0/16 and fe80::/64; others are no link-local addresses (dockerd takes the mask of their class)."""
    found = [ipaddress.ip_address(text) for text in texts]
    return tuple(
        ipaddress.ip_interface(f"{address}/{16 if address.version == 4 else 64}") for address in found
    )


def _take(network: NetworkState, version: int, wanted: str) -> Interface | None:
    pools = [pool for pool in network.pools if pool.subnet.version == version]
    if not pools:
        return None
    if wanted:
        address = ipaddress.ip_address(wanted)
        return next((pool for pool in pools if address in pool.subnet), pools[0]).allocate(address)
    for pool in pools:
        try:
            return pool.allocate()
        except SystemFailure:
            continue
    raise SystemFailure(
        f"no available IPv{version} addresses on this network's address pools: {network.name} ({network.record.id})"
    )


def _interface_name(network: NetworkState, settings: EndpointSettings, taken: set[str]) -> str:
    chosen = (settings.driver_opts or {}).get(INTERFACE_NAME)
    if chosen:
        if len(chosen) > 15 or "/" in chosen or chosen in taken:
            raise InvalidParameter(f"invalid interface name {chosen!r}")
        return chosen
    prefix = network.record.options.get(drivers.PREFIX, "eth")
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"


def by_priority(settings: Mapping[str, EndpointSettings | None]) -> list[str]:
    """Names of networks, the one that is to lead outside first: highest gateway priority, then the name."""
    return sorted(settings, key=lambda name: (-(each.gw_priority if (each := settings[name]) else 0), name))


def gateways(
    endpoints: Mapping[str, Endpoint], settings: Mapping[str, EndpointSettings]
) -> dict[int, Endpoint]:
    """The endpoint that leads outside, by family: highest gateway priority, then the network's name. Internal ones never do."""
    order = [
        endpoint
        for name in by_priority(
            {each.network.name: settings.get(each.network.name) for each in endpoints.values()}
        )
        for endpoint in endpoints.values()
        if endpoint.network.name == name
    ]
    found: dict[int, Endpoint] = {}
    for version in (4, 6):
        for endpoint in order:
            has = endpoint.v4 if version == 4 else endpoint.v6
            if has is not None and not endpoint.network.record.internal and endpoint.network.gateway(version):
                found[version] = endpoint
                break
    return found


def default_routes(leading: Mapping[int, Endpoint]) -> list[DefaultRoute]:
    """Routes by way of the endpoints that lead outside."""
    found = []
    for version, endpoint in leading.items():
        gateway: Address | None = endpoint.network.gateway(version)
        record = endpoint.network.record
        if record.driver == "ipvlan" and record.options.get("ipvlan_mode", "l2") != "l2":
            gateway = None
        found.append(DefaultRoute(version, endpoint.interface, gateway))
    return found


def plan(endpoint: Endpoint, *, published: bool, mark: str = "") -> InterfacePlan:
    """The endpoint's interface, as the kernel is to make it; `published`: ports of the container lead there; `mark`: see there."""
    record = endpoint.network.record
    mode = flag = ""
    if record.driver == "macvlan":
        mode = record.options.get("macvlan_mode", "bridge")
    elif record.driver == "ipvlan":
        mode, flag = record.options.get("ipvlan_mode", "l2"), record.options.get("ipvlan_flag", "bridge")
    return InterfacePlan(
        driver=record.driver,
        name=endpoint.interface,
        host_name=endpoint.host_name,
        mark=mark,
        parent=endpoint.network.index,
        mac=endpoint.mac or None,
        addresses=(*endpoint.addresses, *endpoint.link_local),
        mtu=drivers.mtu(record.options),
        mode=mode,
        flag=flag,
        isolated=endpoint.network.isolated_ports,
        hairpin=published and record.driver == "bridge",
    )


def host_links(endpoints: Iterable[Endpoint]) -> list[str]:
    """Names of our ends of the endpoints' veth pairs."""
    return [endpoint.host_name for endpoint in endpoints if endpoint.host_name]


def inner_links(endpoints: Iterable[Endpoint]) -> list[str]:
    """Names of the endpoints' links that are in the container alone: macvlan and ipvlan."""
    return [endpoint.interface for endpoint in endpoints if endpoint.interface and not endpoint.host_name]


def describe(
    settings: EndpointSettings, endpoint: Endpoint | None, network: NetworkState | None
) -> EndpointSettings:
    """The endpoint as the API shows it; `endpoint` None for a container that does not run."""
    shown = configuration(settings)
    if network is not None:
        shown.network_id = network.record.id
    if endpoint is None:
        return shown
    record = endpoint.network.record
    shown.network_id, shown.endpoint_id, shown.mac_address = record.id, endpoint.id, endpoint.mac
    shown.dns_names = endpoint.network_names or None
    if endpoint.v4 is not None:
        shown.ip_address, shown.ip_prefix_len = str(endpoint.v4.ip), endpoint.v4.network.prefixlen
        shown.gateway = "" if record.internal else str(endpoint.network.gateway(4) or "")
    if endpoint.v6 is not None:
        shown.global_ipv6_address = str(endpoint.v6.ip)
        shown.global_ipv6_prefix_len = endpoint.v6.network.prefixlen
        shown.ipv6_gateway = "" if record.internal else str(endpoint.network.gateway(6) or "")
    return shown


def resource(name: str, endpoint: Endpoint) -> EndpointResource:
    """A running container in `network inspect`."""
    return EndpointResource(name, endpoint.id, endpoint.mac, str(endpoint.v4 or ""), str(endpoint.v6 or ""))
