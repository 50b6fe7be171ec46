"""The bridge of a network, as a link of the host. Synchronous: network thread only."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sampan.errors import InvalidParameter, SystemFailure, reason_of
from sampan.netlink import addresses, links
from sampan.netlink.addresses import Interface
from sampan.netlink.socket import NetlinkError, NetlinkSocket

_SYSCTL = Path("/proc/sys/net")
_LINK_LOCAL = ipaddress.ip_interface("fe80::1/64")
_NAME_LIMIT = 15


@dataclass(frozen=True, slots=True)
class BridgePlan:
    """What the host's side of a bridge network looks like."""

    interface: str
    addresses: tuple[Interface, ...]
    """The gateway of each subnet, with the subnet's prefix length."""
    mac: str
    mtu: int | None
    route_localnet: bool
    """Published ports are reachable at 127.0.0.1; the packet filter keeps everybody else off 127.0.0.0/8."""
    icc: bool = True
    mark: str = ""
    """Says whose the bridge is, for a bridge that we make; empty for one that belongs to somebody else."""


def check_name(name: str) -> None:
    """Raise `InvalidParameter` for what cannot name an interface (or could end a rule's string)."""
    if not name or len(name) > _NAME_LIMIT or name in (".", "..") or any(c in name for c in '/ \t\n"\\*:'):
        raise InvalidParameter(f"invalid bridge name: {name!r}")


def ensure(host: NetlinkSocket, plan: BridgePlan) -> int:
    """Make the bridge be there, up and with its addresses; its index. One that exists is used as it is and completed.

    Raises `SystemFailure` when the name belongs to another kind of link.
    """
    link = links.find(host, plan.interface)
    if link is None:
        creation = links.create_bridge(plan.interface, mac=plan.mac, mtu=plan.mtu)
        host.execute([creation, links.set_alias(plan.interface, plan.mark)], tolerate=[errno.EEXIST])
        link = links.find(host, plan.interface)
    if link is None or link.kind != "bridge":
        raise SystemFailure(f"existing interface {plan.interface} is not a bridge")
    _write("ipv6/conf", plan.interface, "accept_ra", "0")
    wanted = list(plan.addresses)
    if any(address.version == 6 for address in wanted):
        _write("ipv6/conf", plan.interface, "disable_ipv6", "0")
        wanted.append(_LINK_LOCAL)
    if plan.mark and link.alias == plan.mark:
        _drop_other_addresses(host, link.number, wanted)
    requests = [addresses.add_address(link.number, address) for address in wanted]
    host.execute([*requests, links.set_up(link.number)], tolerate=[errno.EEXIST])
    if plan.route_localnet:
        _write("ipv4/conf", plan.interface, "route_localnet", "1")
    return link.number


def _drop_other_addresses(host: NetlinkSocket, index: int, wanted: Sequence[Interface]) -> None:
    """What an engine with another configuration gave a bridge of ours."""
    old = [
        address
        for number, address in addresses.all_addresses(host)
        if number == index and address not in wanted and not address.ip.is_link_local
    ]
    host.execute(
        [addresses.delete_address(index, address) for address in old], tolerate=[errno.EADDRNOTAVAIL]
    )


def remove_strays(host: NetlinkSocket, mark: str, known: Collection[str]) -> None:
    """Remove links that carry our mark and are none of the known: an engine was killed while it made or removed one."""
    for link in links.all_links(host):
        if link.alias == mark and link.name not in known:
            host.execute([links.delete(link.number)], tolerate=[errno.ENODEV])


def remove(host: NetlinkSocket, interface: str) -> None:
    """Remove the bridge. Idempotent."""
    link = links.find(host, interface)
    if link is None:
        return
    try:
        host.execute([links.delete(link.number)])
    except NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise


def separate_ports_possible() -> bool:
    """Make the kernel show bridged packets to the packet filter, which icc=false needs. False: it cannot, isolate the ports."""
    try:
        for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
            (_SYSCTL / "bridge" / name).write_text("1")
    except OSError:
        return False
    return True


def enable_forwarding(ipv6: bool) -> bool:
    """Switch forwarding on; True when it was off before, so that the caller keeps the machine from becoming a router."""
    changed = False
    names = ["ipv4/ip_forward"]
    if ipv6:
        names += ["ipv6/conf/default/forwarding", "ipv6/conf/all/forwarding"]
    for name in names:
        path = _SYSCTL / name
        try:
            if path.read_text().strip() != "1":
                path.write_text("1")
                changed = True
        except OSError as error:
            raise SystemFailure(
                f"cannot enable IP forwarding ({path}): {reason_of(error)}; set it yourself or start with --ip-forward=false"
            ) from error
    return changed


def uplinks(all_links: Iterable[links.Link]) -> list[str]:
    """Names of the machine's physical interfaces."""
    return [link.name for link in all_links if (Path("/sys/class/net") / link.name / "device").exists()]


def _write(family: str, interface: str, name: str, value: str) -> None:
    try:
        (_SYSCTL / family / interface / name).write_text(value)
    except OSError:
        return  # a kernel without this family: what the value would prevent or allow is not there either
