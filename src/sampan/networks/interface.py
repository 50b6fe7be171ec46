"""What containers and networks say to each other: the seam between `containers` and `networks`.

A container's life seen from here::

    await networks.connect(target, "bridge", EndpointSettings())       # at create: configuration only
    joined = await networks.join(SandboxRequest(...))                   # at start, between launch and start of the shim
    await networks.connect(target, "backend", settings, sandbox=...)    # `docker network connect` while it runs
    await networks.leave(container_id)                                  # at stop: addresses and ports are free again
    await networks.forget(container_id)                                 # at removal: the configuration goes too

The network mode `container:ID` is not known here: such a container has no endpoints and uses the other's namespace and files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sampan.engineapi.container import PortBinding
from sampan.engineapi.network import EndpointSettings, Network, NetworkCreateRequest

if TYPE_CHECKING:
    from sampan.engineapi.filters import Filters
    from sampan.runtime.interface import Sandbox

PortMap = dict[str, "list[PortBinding] | None"]
"""`{"80/tcp": [PortBinding("0.0.0.0", "8080")], "90/udp": None}`: NetworkSettings.Ports; None is exposed, not published."""


@dataclass(frozen=True, slots=True)
class ContainerName:
    """Who connects: what DNS, events and error messages need to know of a container."""

    id: str
    name: str
    """Without the leading slash."""
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class SandboxFiles:
    """Files that are bind-mounted into the container. They must exist (empty) before the launch; `join` and later
    `connect`/`disconnect` write them in place, keeping the inode that is mounted."""

    hosts: Path
    resolv_conf: Path
    hostname: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRequest:
    """Everything that decides a container's network at its start."""

    container: ContainerName
    sandbox: Sandbox | None
    """None for the host network: there is nothing to configure. The descriptors stay the caller's."""
    files: SandboxFiles
    domainname: str = ""
    exposed: Sequence[str] = ()
    """Exposed ports of the configuration, "80/tcp"."""
    published: Mapping[str, list[PortBinding] | None] = field(default_factory=dict)
    """HostConfig.PortBindings."""
    publish_all: bool = False
    dns: Sequence[str] = ()
    dns_search: Sequence[str] = ()
    dns_options: Sequence[str] = ()
    extra_hosts: Sequence[str] = ()
    """HostConfig.ExtraHosts: "name:address" or "name=address", address `host-gateway` included."""
    links: Sequence[tuple[ContainerName, str, Sequence[str]]] = ()
    """Legacy links on the default bridge: (target, alias, the target's exposed ports). The target must have joined."""
    kept: dict[str, list[int]] = field(default_factory=dict)
    """For `restore`: what an earlier engine's `sockets` gave, by kind; `restore` takes the descriptors over."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What a started container has."""

    endpoints: dict[str, EndpointSettings]
    """By network name, operational data filled in."""
    ports: PortMap
    sandbox_id: str
    """64 hex digits; NetworkSettings.SandboxID."""


class Networks(Protocol):
    """The network service. All methods run on the engine's loop and never block it."""

    # --- networks, as the API knows them ---------------------------------------------------------------------------

    async def create(self, request: NetworkCreateRequest) -> str:
        """Make a network, return its id. Raises with Docker's messages."""
        ...

    def inspect(self, reference: str, *, scope: str = "") -> Network:
        """By id, name or id prefix. Raises `NotFound("network x not found")`, `InvalidParameter` when ambiguous."""
        ...

    def search(self, filters: Filters) -> list[Network]:
        """`docker network ls`: every network that passes the filters."""
        ...

    async def remove(self, reference: str) -> None:
        """Raises `Forbidden` for predefined networks and ones with active endpoints."""
        ...

    async def prune(self, filters: Filters) -> list[str]:
        """Remove user-defined networks that no container uses; their names."""
        ...

    # --- endpoints ---------------------------------------------------------------------------------------------------

    async def configure(self, container: ContainerName, endpoints: Mapping[str, EndpointSettings]) -> None:
        """At container create: keep which networks it will be on (by name or id), in this order, and how.

        A network that does not exist is kept too: Docker reports it at start. Raises `InvalidParameter` for settings
        that cannot work (addresses, aliases, MAC), and for combinations (host or none with others).
        """
        ...

    async def connect(
        self,
        container: ContainerName,
        network: str,
        settings: EndpointSettings,
        *,
        sandbox: Sandbox | None = None,
    ) -> EndpointSettings:
        """Add an endpoint. With `sandbox` (the container runs and has joined) the interface appears at once.

        Raises `NotFound`, `Forbidden` (already connected: "endpoint with name x already exists in network y"), `InvalidParameter`.
        """
        ...

    async def disconnect(
        self, container: ContainerName, network: str, *, sandbox: Sandbox | None = None, force: bool = False
    ) -> None:
        """Take an endpoint away, from a running container too.

        Raises `SystemFailure`, as dockerd: "container x is not connected to network y".
        """
        ...

    def endpoints(self, container_id: str) -> dict[str, EndpointSettings]:
        """NetworkSettings.Networks of a container, running or not."""
        ...

    def ports(self, container_id: str) -> PortMap:
        """NetworkSettings.Ports; {} while it does not run."""
        ...

    async def join(self, request: SandboxRequest) -> Joined:
        """Give a launched container its network: interfaces, addresses, routes, published ports, DNS, files.

        All or nothing. Raises `NotFound` for a network that is gone, `SystemFailure` with Docker's words for a port that is taken
        ("driver failed programming external connectivity on endpoint …: Bind for 0.0.0.0:8080 failed: port is already allocated").
        """
        ...

    async def leave(self, container_id: str) -> None:
        """The container has stopped: free addresses, ports, rules and names. The interfaces die with the namespace. Idempotent."""
        ...

    async def forget(self, container_id: str) -> None:
        """The container has been removed: its endpoint configuration goes. Implies `leave`. Idempotent."""
        ...

    async def rename(self, container: ContainerName) -> None:
        """`docker rename`: DNS answers the new name."""
        ...

    # --- the engine's life -------------------------------------------------------------------------------------------

    def sockets(self, container_id: str, kind: str) -> list[int]:
        """Descriptors that a running container can keep for the next engine, which stay the service's. Kinds: `ports`, the
        host's ports; `dns`, where the resolver listens in the container."""
        ...

    async def forget_others(self, containers: Collection[str]) -> None:
        """Once, before `restore`: `containers` are all that there are. What is stored of others (their creation or removal was cut
        short) is dropped."""
        ...

    async def restore(self, requests: Sequence[SandboxRequest]) -> None:
        """Once, after opening: `requests` are the containers that still run. Bridges, rules, ports, DNS and names answer again;
        endpoints of containers that are not among them are released."""
        ...

    async def close(self) -> None:
        """At shutdown: with no container joined, bridges and rules are removed; else they stay for the next engine."""
        ...
