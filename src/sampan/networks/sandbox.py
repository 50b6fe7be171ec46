"""A container's interfaces: made from the host, configured through a socket inside the container's namespace.

Synchronous: network thread only. The whole of a container's start is three batches: one to the host's namespace (links, our
ends in their bridges), one to the container's (lo up, addresses, links up, routes), and last our ends go up.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sampan.errors import SystemFailure
from sampan.netlink import addresses, links
from sampan.netlink.addresses import Address, Interface
from sampan.netlink.message import Request
from sampan.netlink.socket import NetlinkSocket

if TYPE_CHECKING:
    from sampan.runtime.interface import Sandbox

_LOOPBACK = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfacePlan:
    """One interface of a container."""

    driver: str
    """bridge, macvlan or ipvlan."""
    name: str
    """In the container: eth0…"""
    host_name: str
    """Our end of a veth pair. Never used twice."""
    mark: str = ""
    """Says whose our end is, for a start after kill -9."""
    parent: int
    """Index of the bridge, or of the link below a macvlan or ipvlan."""
    mac: str | None
    addresses: tuple[Interface, ...]
    mtu: int | None = None
    mode: str = ""
    flag: str = ""
    isolated: bool = False
    """The bridge port reaches no other isolated port."""
    hairpin: bool = False
    """Frames may leave by the port they came from: a container that calls its own published port. Where br_netfilter is on, the
    translated frame is bridged, not routed."""


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """Where a container sends what is for nobody it knows; gateway None: out of the interface itself (ipvlan l3)."""

    version: int
    interface: str
    gateway: Address | None


def new_link_name() -> str:
    """A name for our end of a veth pair: the last one lingers after its container, so names are never used again."""
    return f"veth{secrets.token_hex(4)[:7]}"


def new_mac() -> str:
    """A random unicast address of the locally administered kind, as current dockerd gives each endpoint."""
    first, *rest = secrets.token_bytes(6)
    return bytes([(first & 0xFC) | 0x02, *rest]).hex(":")


def attach(
    host: NetlinkSocket, sandbox: Sandbox, plans: Sequence[InterfacePlan], routes: Sequence[DefaultRoute]
) -> dict[str, str]:
    """Give a namespace its interfaces and default routes: MAC address by interface name.

    All or nothing: links of a failed attempt are removed. When it returns, frames pass: what the container sends first is not lost.
    """
    with NetlinkSocket.adopt(sandbox.route_fd) as inner:
        try:
            host.execute([request for plan in plans for request in _creation(plan, sandbox.netns_fd)])
            host.execute([_port(host, plan) for plan in plans if plan.isolated or plan.hairpin])
            macs = _configure(inner, plans, routes)
            _open_ports(host, inner, plans)
            return macs
        except SystemFailure:
            detach(host, inner, [(plan.name, plan.host_name) for plan in plans])
            raise


def _creation(plan: InterfacePlan, netns: int) -> list[Request]:
    if plan.driver == "macvlan":
        return [
            links.create_macvlan(plan.name, parent=plan.parent, mode=plan.mode, netns=netns, mac=plan.mac)
        ]
    if plan.driver == "ipvlan":
        return [
            links.create_ipvlan(plan.name, parent=plan.parent, mode=plan.mode, flag=plan.flag, netns=netns)
        ]
    veth = links.create_veth(
        plan.host_name,
        peer=plan.name,
        peer_netns=netns,
        peer_mac=plan.mac,
        master=plan.parent,
        mtu=plan.mtu,
    )
    return [veth, links.set_alias(plan.host_name, plan.mark)] if plan.mark else [veth]


def _port(host: NetlinkSocket, plan: InterfacePlan) -> Request:
    link = links.find(host, plan.host_name)
    if link is None:
        raise SystemFailure(f"link {plan.host_name} is gone")
    return links.set_port(link.number, hairpin=plan.hairpin, isolated=plan.isolated)


def _open_ports(host: NetlinkSocket, inner: NetlinkSocket, plans: Sequence[InterfacePlan]) -> None:
    """Our ends go up when the container's are up: with a carrier from the first moment, the bridge lets a port forward once.

    Up before that, a port forwards, is disabled and forwards again as soon as the kernel looks at its carrier: three more lines
    of the kernel's log for each container, written under the lock that all network changes wait for (a millisecond each on a
    serial console). Whoever asks for a link makes the kernel look at its carrier before it answers (`rtnl_getlink`).
    """
    ours = [plan for plan in plans if plan.driver == "bridge"]
    host.execute([links.set_named_up(plan.host_name) for plan in ours])
    for plan in ours:
        links.find(host, plan.host_name)
        links.find(inner, plan.name)


def _configure(
    inner: NetlinkSocket, plans: Sequence[InterfacePlan], routes: Sequence[DefaultRoute]
) -> dict[str, str]:
    requests = [links.set_up(_LOOPBACK)]
    indexes: dict[str, int] = {}
    macs: dict[str, str] = {}
    for plan in plans:
        link = links.find(inner, plan.name)
        if link is None:
            raise SystemFailure(f"interface {plan.name} did not appear in the container's namespace")
        indexes[plan.name] = link.number
        macs[plan.name] = link.mac
        if all(address.version == 4 for address in plan.addresses):
            requests.append(links.set_no_automatic_ipv6(link.number))
        requests += [addresses.add_address(link.number, address) for address in plan.addresses]
        requests.append(links.set_up(link.number))
    requests += [default_route(route, indexes[route.interface]) for route in routes]
    inner.execute(requests)
    return macs


def default_route(route: DefaultRoute, index: int) -> Request:
    """The request that sets a default route, replacing the present one."""
    return addresses.add_route(None, version=route.version, gateway=route.gateway, index=index)


def set_default_routes(sandbox: Sandbox, routes: Sequence[DefaultRoute]) -> None:
    """Make these the default routes of a running container; a family without one loses it."""
    with NetlinkSocket.adopt(sandbox.route_fd) as inner:
        present = [
            route
            for route in addresses.all_routes(inner)
            if route.destination.prefixlen == 0 and not route.local
        ]
        old = [
            addresses.delete_route(
                None, version=route.destination.version, gateway=route.gateway, index=route.number
            )
            for route in present
        ]
        inner.execute(old, tolerate=[errno.ESRCH])
        requests = []
        for route in routes:
            link = links.find(inner, route.interface)
            if link is not None:
                requests.append(default_route(route, link.number))
        inner.execute(requests)


def detach(host: NetlinkSocket, inner: NetlinkSocket, names: Sequence[tuple[str, str]]) -> None:
    """Remove interfaces, (inner name, host name) each, from a container that goes on running. Idempotent.

    Not for a container that ends: its links die with the namespace, which waits for nobody (`DepartedLinks` sees to it).
    """
    for inner_name, host_name in names:
        if host_name and (link := links.find(host, host_name)) is not None:
            host.execute([links.delete(link.number)], tolerate=[errno.ENODEV])
        elif not host_name and (link := links.find(inner, inner_name)) is not None:
            inner.execute([links.delete(link.number)], tolerate=[errno.ENODEV])


def delete_links(sock: NetlinkSocket, names: Sequence[str]) -> None:
    """Remove links by their names, in the socket's namespace; those that are gone already are passed over."""
    found = [link for name in names if (link := links.find(sock, name)) is not None]
    sock.execute([links.delete(link.number) for link in found], tolerate=[errno.ENODEV])
