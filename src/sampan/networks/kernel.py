"""The engine's hand on the kernel: one thread, one rtnetlink socket, one firewall. Everything here is awaited, nothing
blocks the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from sampan.errors import SystemFailure
from sampan.firewall.firewall import Firewall
from sampan.firewall.nftables import FirewallError
from sampan.firewall.rules import BridgeRules, LinkRules, PublishedPort
from sampan.netlink import addresses, links
from sampan.netlink.conntrack import forget_udp
from sampan.netlink.socket import NETLINK_NETFILTER, NetlinkSocket
from sampan.netlink.thread import NamespaceVisitor, NetworkThread
from sampan.networks import bridge, sandbox
from sampan.networks.bridge import BridgePlan
from sampan.networks.ipam import Subnet
from sampan.networks.options import NetworkOptions
from sampan.networks.sandbox import DefaultRoute, InterfacePlan

if TYPE_CHECKING:
    from sampan.runtime.interface import Sandbox

T = TypeVar("T")

log = logging.getLogger(__name__)


class Kernel:
    """Made with `Kernel.open`, on the engine's loop."""

    def __init__(self, options: NetworkOptions) -> None:
        self._options = options
        self._thread = NetworkThread()
        self.visitor = NamespaceVisitor()
        self._host: NetlinkSocket
        self.firewall: Firewall | None = None

    @classmethod
    async def open(cls, options: NetworkOptions) -> Kernel:
        """Sockets, forwarding, the packet filter's library. Raises `SystemFailure` with one line that says what to do."""
        kernel = cls(options)
        await kernel._thread.run(kernel._open)
        return kernel

    def _open(self) -> None:
        self._host = NetlinkSocket.open()
        ports: list[str] = []
        if self._options.ip_forward:
            changed = bridge.enable_forwarding(self._options.ipv6)
            if changed and not self._options.ip_forward_no_drop:
                ports = bridge.uplinks(links.all_links(self._host))
        if self._options.iptables:
            self.firewall = Firewall(
                self._options.data_root, uplinks=ports, accept_mark=self._options.bridge_accept_fwmark
            )

    async def run(self, function: Callable[[NetlinkSocket], T]) -> T:
        """Run a function of the host's socket on the network thread."""
        return await self._thread.run(lambda: function(self._host))

    async def close(self) -> None:
        """Stop the threads; what is in the kernel stays."""
        await self._thread.run(self._close)
        self._thread.close()
        self.visitor.close()

    def _close(self) -> None:
        self._host.close()
        if self.firewall is not None:
            self.firewall.close()

    async def used_subnets(self) -> list[Subnet]:
        """Everything that the host has a route to, default routes aside."""
        return await self.run(
            lambda host: [
                route.destination
                for route in addresses.all_routes(host)
                if route.destination.prefixlen and not route.local
            ]
        )

    async def ensure_bridge(self, plan: BridgePlan) -> tuple[int, bool]:
        """The bridge's index, and whether its ports must be isolated from each other (icc=false without br_netfilter)."""

        def work(host: NetlinkSocket) -> tuple[int, bool]:
            isolated = not plan.icc and not bridge.separate_ports_possible()
            return bridge.ensure(host, plan), isolated

        return await self.run(work)

    async def attach(
        self,
        target: Sandbox,
        plans: Sequence[InterfacePlan],
        routes: Sequence[DefaultRoute],
        ports: Sequence[PublishedPort],
        also: Callable[[dict[str, str]], None],
    ) -> dict[str, str]:
        """A container's whole start in one visit to the network thread: interfaces, then `also` (files), then ports.

        MAC addresses by interface. All or nothing.
        """

        def work(host: NetlinkSocket) -> dict[str, str]:
            macs = sandbox.attach(host, target, plans, routes)
            try:
                also(macs)
                self._publish(ports)
            except BaseException:
                self._detach(host, target, [(plan.name, plan.host_name) for plan in plans])
                raise
            return macs

        return await self.run(work)

    async def detach(self, target: Sandbox, names: Sequence[tuple[str, str]]) -> None:
        """Take interfaces from a container that goes on running."""
        await self.run(lambda host: self._detach(host, target, names))

    @staticmethod
    def _detach(host: NetlinkSocket, target: Sandbox, names: Sequence[tuple[str, str]]) -> None:
        with NetlinkSocket.adopt(target.route_fd) as inner:
            sandbox.detach(host, inner, names)

    async def remove_inside(self, route_socket: int, names: Sequence[str]) -> None:
        """Delete links by a netlink socket of the namespace that they are in. Idempotent."""

        def work(host: NetlinkSocket) -> None:
            with NetlinkSocket.adopt(route_socket) as inner:
                sandbox.delete_links(inner, names)

        await self.run(work)

    async def publish(self, ports: Sequence[PublishedPort]) -> None:
        """Let ports lead to a container."""
        await self._thread.run(lambda: self._publish(ports))

    def _publish(self, ports: Sequence[PublishedPort]) -> None:
        if self.firewall is not None and ports:
            self.firewall.publish(ports)
            self._forget_flows(ports)

    @staticmethod
    def _forget_flows(ports: Sequence[PublishedPort]) -> None:
        """Let UDP clients that go on sending be led anew."""
        numbers = {port.host_port for port in ports if port.protocol == "udp"}
        if numbers:
            with NetlinkSocket.open(NETLINK_NETFILTER) as sock:
                forget_udp(sock, numbers)

    async def withdraw(self, ports: Sequence[PublishedPort]) -> None:
        """Undo `publish`. A filter that somebody has flushed has nothing to undo: that is logged, not raised."""

        def work() -> None:
            try:
                if self.firewall is not None:
                    self.firewall.withdraw(ports)
                self._forget_flows(ports)
            except FirewallError as error:
                log.warning("published ports were not in the packet filter any more: %s", error)

        if self.firewall is not None and ports:
            await self._thread.run(work)

    async def set_bridges(self, bridges: Sequence[BridgeRules]) -> None:
        """Other networks."""
        if (firewall := self.firewall) is not None:
            await self._thread.run(lambda: firewall.set_bridges(bridges))

    async def set_links(self, legacy: Sequence[LinkRules]) -> None:
        """Other legacy links."""
        if (firewall := self.firewall) is not None:
            await self._thread.run(lambda: firewall.set_links(legacy))

    async def reset_firewall(self, bridges: Sequence[BridgeRules], ports: Sequence[PublishedPort]) -> None:
        """Make the filter hold exactly these."""
        if (firewall := self.firewall) is not None:
            await self._thread.run(lambda: firewall.reset(bridges, ports))

    async def mend_firewall(self, ports: Sequence[PublishedPort] | None) -> None:
        """After others' changes: with all published ports, when our own table has gone, else only where theirs want ours."""
        if (firewall := self.firewall) is not None:
            await self._thread.run(firewall.mend if ports is None else lambda: firewall.stand_again(ports))

    async def remove_firewall(self) -> None:
        """Take every rule of this engine away."""
        if (firewall := self.firewall) is not None:
            await self._thread.run(lambda: firewall.remove())

    async def parent_index(self, name: str) -> int:
        """Index of an interface of the host. Raises `SystemFailure` when there is none."""
        link = await self.run(lambda host: links.find(host, name))
        if link is None:
            raise SystemFailure(f"interface {name} not found on the host")
        return link.number
