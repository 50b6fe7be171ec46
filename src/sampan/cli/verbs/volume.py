"""volume create, ls, rm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.cli import words
from sampan.cli.command import flag, listing, option, verb
from sampan.cli.formats import TABLE_FORMAT
from sampan.cli.table import show
from sampan.cli.values import FILTER, STRING, filters, mapping
from sampan.client.http import quote
from sampan.errors import InvalidParameter, SampanError
from sampan.names.units import human_size

if TYPE_CHECKING:
    from sampan.cli.session import Session

_HEADERS = {
    "Name": "VOLUME NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
    "Status": "STATUS",
}


@verb("[OPTIONS] [VOLUME]", "Create a volume", arity=(0, 1), aliases=("volume create",))
@option("-d", "--driver", kind=STRING, default="local", help="Specify volume driver name")
@listing("--label", kind=STRING, help="Set metadata for a volume")
@option("--name", kind=STRING, default="", help="Specify volume name", hidden=True)
@listing("-o", "--opt", kind=STRING, help="Set driver specific options")
def create(
    session: Session,
    args: tuple[str, ...],
    driver: str,
    label: tuple[str, ...],
    name: str,
    opt: tuple[str, ...],
) -> None:
    if args and name:
        raise InvalidParameter(
            "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
        )
    body = {
        "Name": args[0] if args else name,
        "Driver": driver,
        "Labels": mapping(label),
        "DriverOpts": mapping(opt),
    }
    print(session.call("POST", "/volumes/create", None, body)["Name"])


@verb("[OPTIONS]", "List volumes", aliases=("volume ls", "volume list"))
@listing("-f", "--filter", kind=FILTER, help='Provide filter values (e.g. "dangling=true")')
@option("--format", kind=STRING, default="", help=TABLE_FORMAT)
@flag("-q", "--quiet", help="Only display volume names")
def ls(
    session: Session, args: tuple[str, ...], filter: tuple[tuple[str, str], ...], format: str, quiet: bool
) -> None:
    rows = session.call("GET", "/volumes", {"filters": filters(filter) or None})["Volumes"] or []
    rows.sort(key=lambda row: row["Name"])
    given = format or ("{{.Name}}" if quiet else "")
    show(
        given, "table {{.Driver}}\t{{.Name}}", _HEADERS, "volumeContext", [volume_record(row) for row in rows]
    )


def volume_record(row: dict[str, Any]) -> dict[str, Any]:
    """The fields that a format of `volume ls` or `system df` may use."""
    usage = row.get("UsageData")
    return {
        "Name": row["Name"],
        "Driver": row["Driver"],
        "Scope": row["Scope"],
        "Mountpoint": row["Mountpoint"],
        "Labels": words.labels(row.get("Labels")),
        "_labels": row.get("Labels") or {},
        "Links": str(usage["RefCount"]) if usage else "N/A",
        "Size": human_size(usage["Size"]) if usage else "N/A",
        "Availability": "N/A",
        "Group": "N/A",
        "Status": "N/A",
    }


@verb(
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes",
    arity=(1, None),
    aliases=("volume rm", "volume remove"),
)
@flag("-f", "--force", help="Force the removal of one or more volumes")
def rm(session: Session, args: tuple[str, ...], force: bool) -> None:
    for name in args:
        try:
            session.call("DELETE", f"/volumes/{quote(name)}", {"force": force or None})
        except SampanError as error:
            session.complain(error)
            continue
        print(name)
