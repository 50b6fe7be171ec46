"""Published ports of a container: reserved on the host, told to the packet filter, relayed where that cannot help."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable

from sampan.engineapi.container import PortBinding
from sampan.errors import SystemFailure
from sampan.firewall.rules import PublishedPort
from sampan.networks import drivers
from sampan.networks.interface import PortMap, SandboxRequest
from sampan.networks.model import Endpoint, Live, PortRecord
from sampan.networks.options import NetworkOptions
from sampan.networks.ports import HostPorts, Reservation, Wanted, by_name, parse_port, wanted_ports
from sampan.networks.relay import Relay

log = logging.getLogger(__name__)


class Publisher:
    """The engine's host ports."""

    def __init__(self, options: NetworkOptions) -> None:
        self._options = options
        self._ports = HostPorts()

    def reserve(self, live: Live, gateway: Endpoint | None) -> None:
        """Take the host ports that a container asks for, into `live.reservations`. Without a network that leads outside: none.

        Raises `SystemFailure` in dockerd's words; nothing is held then.
        """
        if gateway is None:
            return
        address = gateway.network.record.options.get(drivers.HOST_BINDING) or self._options.ip
        request = live.request
        wanted = wanted_ports(
            request.published, request.exposed, request.publish_all, ipaddress.ip_address(address)
        )
        try:
            for each in wanted:
                translated = self._translated(each, gateway, live)
                if translated.addresses:
                    live.reservations += self._ports.reserve(self._reachable(translated, gateway))
        except SystemFailure as error:
            self.release(live)
            name, endpoint = request.container.name, gateway.id
            raise SystemFailure(
                f"driver failed programming external connectivity on endpoint {name} ({endpoint}): {error}"
            ) from error

    def _translated(self, wanted: Wanted, gateway: Endpoint, live: Live) -> Wanted:
        """Without the families of routed networks: their containers are reached at their own addresses, not at the host's."""
        rest = []
        routed = {version for version in (4, 6) if _is_routed(gateway, version)}
        for host in wanted.addresses:
            if host.version not in routed and (
                gateway.address(host.version) or 10 - host.version not in routed
            ):
                rest.append(host)
            elif host.version in routed and gateway.address(host.version):
                live.reservations.append(Reservation(wanted.protocol, wanted.port, host, 0, None))
        return wanted._replace(addresses=tuple(rest))

    def _reachable(self, wanted: Wanted, gateway: Endpoint) -> Wanted:
        """Without the relay, an IPv6 address of the host cannot lead to a container that has IPv4 only."""
        if self._options.userland_proxy or gateway.v6 is not None or len(wanted.addresses) == 1:
            return wanted
        return wanted._replace(addresses=wanted.addresses[:1])

    def restore(self, live: Live, records: Iterable[PortRecord], kept: Iterable[int]) -> None:
        """Take up the ports that a container has had, with the sockets (`kept`, ours now) that its shim held.

        A port without one is bound again. One that somebody took meanwhile is logged: the filter still leads it.
        """
        sockets = by_name(kept)
        for record in records:
            host = ipaddress.ip_address(record.host)
            if not record.host_port:
                live.reservations.append(Reservation(record.protocol, record.port, host, 0, None))
                continue
            if sock := sockets.pop((record.protocol, host, record.host_port), None):
                held = Reservation(record.protocol, record.port, host, record.host_port, sock)
                self._ports.adopt(held)
                live.reservations.append(held)
                continue
            wanted = Wanted(record.protocol, record.port, (host,), record.host_port, record.host_port)
            try:
                live.reservations += self._ports.reserve(wanted)
            except SystemFailure as error:
                log.warning("container %s: %s", live.request.container.name, error)
                live.reservations.append(
                    Reservation(record.protocol, record.port, host, record.host_port, None)
                )
        for sock in sockets.values():
            sock.close()

    def release(self, live: Live) -> None:
        """Give all host ports of a container back, and stop carrying. Idempotent."""
        for relay in live.relays:
            relay.stop()
        live.relays.clear()
        self._ports.release(live.reservations)
        live.reservations.clear()

    def translate(self, live: Live, gateways: dict[int, Endpoint]) -> list[PublishedPort]:
        """What the packet filter is to be told: reservations with the container's address of the same family."""
        found = []
        for held in live.reservations:
            version = held.host.version
            endpoint = gateways.get(version)
            address = endpoint.address(version) if endpoint else None
            if endpoint is None or address is None or (version == 6 and not self._options.ip6tables):
                continue
            routed = _is_routed(endpoint, version)
            found.append(
                PublishedPort(held.protocol, held.host, held.host_port, address, held.port, not routed)
            )
        return found

    async def relay(self, live: Live, gateways: dict[int, Endpoint]) -> None:
        """Carry what arrives at the reserved sockets themselves."""
        if not self._options.userland_proxy:
            return
        for relay in live.relays:
            relay.stop()
        live.relays.clear()
        for held in live.reservations:
            target = _relay_target(gateways, held.host.version)
            if held.socket is None or target is None or held.protocol == "sctp":
                continue
            relay = Relay(held.socket, (target, held.port))
            live.relays.append(relay)
            await relay.start()


def _is_routed(endpoint: Endpoint, version: int) -> bool:
    option = drivers.GATEWAY_MODE_4 if version == 4 else drivers.GATEWAY_MODE_6
    return endpoint.network.record.options.get(option) == "routed"


def _relay_target(gateways: dict[int, Endpoint], version: int) -> str | None:
    """The container's address, of the same family where it has one."""
    for family in (version, 10 - version):
        endpoint = gateways.get(family)
        address = endpoint.address(family) if endpoint else None
        if address is not None:
            return str(address)
    return None


def port_map(request: SandboxRequest, reservations: Iterable[Reservation]) -> PortMap:
    """NetworkSettings.Ports: every exposed port, with its bindings where it is published."""
    found: PortMap = {}
    for name in [*request.exposed, *request.published]:
        port, protocol = parse_port(name)
        found.setdefault(f"{port}/{protocol}", None)
    for held in reservations:
        name = f"{held.port}/{held.protocol}"
        bindings = found.get(name) or []
        bindings.append(PortBinding(str(held.host), str(held.host_port or "")))
        found[name] = bindings
    return found
