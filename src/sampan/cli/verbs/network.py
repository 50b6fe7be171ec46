"""network create, connect, disconnect, ls, rm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.cli import words
from sampan.cli.command import flag, listing, option, verb
from sampan.cli.formats import TABLE_FORMAT
from sampan.cli.options.networks import read_address_options
from sampan.cli.table import show
from sampan.cli.values import FILTER, INT, STRING, filters, mapping
from sampan.client.http import quote
from sampan.errors import NotFound, SampanError

if TYPE_CHECKING:
    from sampan.cli.session import Session

_HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}


@verb("[OPTIONS]", "List networks", aliases=("network ls", "network list"))
@listing("-f", "--filter", kind=FILTER, help='Provide filter values (e.g. "driver=bridge")')
@option("--format", kind=STRING, default="", help=TABLE_FORMAT)
@flag("--no-trunc", help="Do not truncate the output")
@flag("-q", "--quiet", help="Only display network IDs")
def ls(
    session: Session,
    args: tuple[str, ...],
    filter: tuple[tuple[str, str], ...],
    format: str,
    no_trunc: bool,
    quiet: bool,
) -> None:
    rows = session.call("GET", "/networks", {"filters": filters(filter) or None})
    rows.sort(key=lambda row: row["Name"])
    table = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
    given = format or ("{{.ID}}" if quiet else "")
    show(given, table, _HEADERS, "networkContext", [_record(row, full=no_trunc) for row in rows])


def _record(row: dict[str, Any], *, full: bool) -> dict[str, Any]:
    return {
        "ID": words.short_id(row["Id"], full=full),
        "Name": row["Name"],
        "Driver": row["Driver"],
        "Scope": row["Scope"],
        "IPv4": _boolean(row.get("EnableIPv4", False)),
        "IPv6": _boolean(row.get("EnableIPv6", False)),
        "Internal": _boolean(row.get("Internal", False)),
        "Labels": words.labels(row.get("Labels")),
        "_labels": row.get("Labels") or {},
        "CreatedAt": words.go_time(row["Created"]),
    }


def _boolean(value: bool) -> str:
    return "true" if value else "false"


@verb(
    "[OPTIONS] NETWORK",
    "Create a network",
    arity=(1, 1),
    aliases=("network create",),
    examples="$ sampan network create --subnet 10.9.0.0/24 backend",
)
@flag("--attachable", help="Enable manual container attachment")
@listing("--aux-address", kind=STRING, help="Auxiliary IPv4 or IPv6 addresses used by Network driver")
@flag("--config-only", help="Create a configuration only network")
@option("-d", "--driver", kind=STRING, default="bridge", help="Driver to manage the Network")
@listing("--gateway", kind=STRING, help="IPv4 or IPv6 Gateway for the master subnet")
@flag("--ingress", help="Create swarm routing-mesh network")
@flag("--internal", help="Restrict external access to the network")
@listing("--ip-range", kind=STRING, help="Allocate container ip from a sub-range")
@option("--ipam-driver", kind=STRING, default="default", help="IP Address Management Driver")
@listing("--ipam-opt", kind=STRING, help="Set IPAM driver specific options")
@flag("--ipv4", default=True, help="Enable or disable IPv4 address assignment")
@flag("--ipv6", help="Enable or disable IPv6 address assignment")
@listing("--label", kind=STRING, help="Set metadata on a network")
@listing("-o", "--opt", kind=STRING, help="Set driver specific options")
@option("--scope", kind=STRING, default="", help="Control the network's scope")
@listing("--subnet", kind=STRING, help="Subnet in CIDR format that represents a network segment")
def create(session: Session, args: tuple[str, ...], **flags: Any) -> None:
    body = {
        "Name": args[0],
        "Driver": flags["driver"],
        "Scope": flags["scope"],
        "EnableIPv6": flags["ipv6"] or None,
        "EnableIPv4": None if flags["ipv4"] else False,
        "IPAM": {
            "Driver": flags["ipam_driver"],
            "Options": mapping(flags["ipam_opt"]),
            "Config": read_address_options(
                flags["subnet"], flags["ip_range"], flags["gateway"], mapping(flags["aux_address"])
            ),
        },
        "Internal": flags["internal"],
        "Attachable": flags["attachable"],
        "Ingress": flags["ingress"],
        "ConfigOnly": flags["config_only"],
        "Options": mapping(flags["opt"]),
        "Labels": mapping(flags["label"]),
    }
    print(session.call("POST", "/networks/create", None, body)["Id"])


@verb(
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    arity=(2, 2),
    aliases=("network connect",),
)
@listing("--alias", kind=STRING, help="Add network-scoped alias for the container")
@listing("--driver-opt", kind=STRING, help="driver options for the network")
@option("--gw-priority", kind=INT, default=0, help="Highest gw-priority provides the default gateway")
@option("--ip", kind=STRING, help='IPv4 address (e.g., "172.30.100.104")')
@option("--ip6", kind=STRING, help='IPv6 address (e.g., "2001:db8::33")')
@listing("--link", kind=STRING, help="Add link to another container")
@listing("--link-local-ip", kind=STRING, help="Add a link-local address for the container")
def connect(session: Session, args: tuple[str, ...], **flags: Any) -> None:
    addresses = {
        "IPv4Address": flags["ip"],
        "IPv6Address": flags["ip6"],
        "LinkLocalIPs": list(flags["link_local_ip"]),
    }
    endpoint = {
        "IPAMConfig": {name: value for name, value in addresses.items() if value},
        "Links": list(flags["link"]),
        "Aliases": list(flags["alias"]),
        "DriverOpts": mapping(flags["driver_opt"]),
        "GwPriority": flags["gw_priority"],
    }
    body = {"Container": args[1], "EndpointConfig": endpoint}
    session.call("POST", f"/networks/{quote(args[0])}/connect", None, body)


@verb(
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    arity=(2, 2),
    aliases=("network disconnect",),
)
@flag("-f", "--force", help="Force the container to disconnect from a network")
def disconnect(session: Session, args: tuple[str, ...], force: bool) -> None:
    body = {"Container": args[1], "Force": force}
    session.call("POST", f"/networks/{quote(args[0])}/disconnect", None, body)


@verb(
    "[OPTIONS] NETWORK [NETWORK...]",
    "Remove one or more networks",
    arity=(1, None),
    aliases=("network rm", "network remove"),
)
@flag("-f", "--force", help="Do not error if the network does not exist")
def rm(session: Session, args: tuple[str, ...], force: bool) -> None:
    for name in args:
        try:
            session.call("DELETE", f"/networks/{quote(name)}")
        except SampanError as error:
            if not (force and isinstance(error, NotFound)):
                session.complain(error)
            continue
        print(name)
