"""What the network service knows, in memory and in the database."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from sampan.engineapi.network import IPAM, EndpointSettings, IPAMConfig
from sampan.firewall.rules import PublishedPort
from sampan.networks.interface import ContainerName, PortMap, SandboxRequest
from sampan.networks.ipam import Address, AddressPool, Interface
from sampan.networks.ports import Reservation
from sampan.networks.relay import Relay
from sampan.store import Schema

SCHEMA = Schema(
    "networks",
    [
        """
        create table network (id text primary key, name text not null unique, record blob not null) strict;
        create table network_endpoint (
            container text not null, position integer not null, network text not null, settings blob not null,
            primary key (container, network)
        ) strict;
        create table network_sandbox (container text primary key, record blob not null) strict;
        """
    ],
)


class NetworkRecord(Struct, kw_only=True):
    """A network as it is stored."""

    id: str
    name: str
    created_ns: int
    driver: str
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    config_only: bool = False
    config_from: str = ""
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    ipam: IPAM
    """As the user gave it."""
    pools: list[IPAMConfig] = []
    """What was made of it: every subnet and gateway is filled in."""
    interface: str = ""
    """The bridge, or the link below macvlan and ipvlan."""
    owned: bool = False
    """We made the interface and remove it with the network."""
    mac: str = ""
    """The bridge's."""


class EndpointRecord(Struct, kw_only=True):
    """A running container's place on a network, as it is stored."""

    network: str
    endpoint: str
    interface: str = ""
    """In the container."""
    host_name: str = ""
    """Our end of the veth pair."""
    mac: str = ""
    addresses: list[str] = []


class PortRecord(Struct):
    """A held host port, as it is stored."""

    protocol: str
    port: int
    host: str
    host_port: int


class SandboxRecord(Struct, kw_only=True):
    """What a running container has, as it is stored: enough to go on after the engine was killed."""

    sandbox_id: str
    endpoints: list[EndpointRecord]
    ports: list[PortRecord] = []


@dataclass(slots=True)
class Endpoint:
    """A running container's place on a network."""

    network: NetworkState
    id: str
    interface: str = ""
    host_name: str = ""
    mac: str = ""
    v4: ipaddress.IPv4Interface | None = None
    v6: ipaddress.IPv6Interface | None = None
    link_local: tuple[Interface, ...] = ()
    """What the user added (`--link-local-ip`); nobody hands these out."""
    network_names: list[str] = field(default_factory=list)
    """What the container is called on this network; the first answers reverse lookups."""

    @property
    def addresses(self) -> tuple[Interface, ...]:
        """Those it has, IPv4 first."""
        return tuple(address for address in (self.v4, self.v6) if address is not None)

    def address(self, version: int) -> Address | None:
        """Its address of a family, without prefix length."""
        found = self.v4 if version == 4 else self.v6
        return None if found is None else found.ip

    def claim(self, addresses: Sequence[str]) -> None:
        """Take up addresses that an earlier engine handed out."""
        for text in addresses:
            address = ipaddress.ip_interface(text)
            if isinstance(address, ipaddress.IPv4Interface):
                self.v4 = address
            else:
                self.v6 = address
            for pool in self.network.pools:
                if address.ip in pool.subnet:
                    pool.claim(address)

    def record(self) -> EndpointRecord:
        """For the database."""
        return EndpointRecord(
            network=self.network.record.id,
            endpoint=self.id,
            interface=self.interface,
            host_name=self.host_name,
            mac=self.mac,
            addresses=[str(address) for address in self.addresses],
        )


@dataclass(slots=True)
class NetworkState:
    """A network that exists."""

    record: NetworkRecord
    pools: list[AddressPool] = field(default_factory=list)
    index: int = 0
    """Of its interface on the host."""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    """Of running containers, by container id."""
    isolated_ports: bool = False

    @property
    def name(self) -> str:
        """The name."""
        return self.record.name

    @property
    def resolves(self) -> bool:
        """Containers find each other by name: everywhere but on the predefined networks."""
        return self.name not in ("bridge", "host", "none")

    def gateway(self, version: int) -> Address | None:
        """The gateway's address of a family; None on networks without one."""
        if self.record.driver not in ("bridge", "macvlan", "ipvlan"):
            return None
        return next((pool.gateway for pool in self.pools if pool.subnet.version == version), None)

    def release(self, endpoint: Endpoint) -> None:
        """Give the endpoint's addresses back."""
        for address in endpoint.addresses:
            for pool in self.pools:
                if address.ip in pool.subnet:
                    pool.release(address)


@dataclass(slots=True)
class Live:
    """A container that has joined."""

    request: SandboxRequest
    sandbox_id: str
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    """By network id, in the order of their interfaces."""
    reservations: list[Reservation] = field(default_factory=list)
    ports: PortMap = field(default_factory=dict)
    published: list[PublishedPort] = field(default_factory=list)
    """What the packet filter was told."""
    relays: list[Relay] = field(default_factory=list)
    resolv_conf: str = ""
    """As it was written last."""
    inside: int = -1
    """A netlink socket of its namespace, ours: by it go the links that have no end with us (macvlan, ipvlan)."""

    @property
    def private(self) -> bool:
        """It has interfaces of its own, so ports mean something."""
        return any(endpoint.interface for endpoint in self.endpoints.values())

    def record(self) -> SandboxRecord:
        """For the database."""
        return SandboxRecord(
            sandbox_id=self.sandbox_id,
            endpoints=[endpoint.record() for endpoint in self.endpoints.values()],
            ports=[
                PortRecord(held.protocol, held.port, str(held.host), held.host_port)
                for held in self.reservations
            ],
        )


@dataclass(slots=True)
class Attachment:
    """A container and the networks that it is on, running or not."""

    container: ContainerName
    settings: dict[str, EndpointSettings] = field(default_factory=dict)
    """By the network's name (or what the user wrote, while no such network exists), in order."""
    live: Live | None = None
