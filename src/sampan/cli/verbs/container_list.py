"""`ps`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.cli import words
from sampan.cli.command import flag, listing, option, verb
from sampan.cli.formats import TABLE_FORMAT
from sampan.cli.table import show
from sampan.cli.values import FILTER, INT, STRING, filters
from sampan.names.units import human_size

if TYPE_CHECKING:
    from sampan.cli.session import Session

HEADERS = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
}
_TABLE = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"


@verb(
    "[OPTIONS]",
    "List containers",
    aliases=("container ls", "container list", "container ps", "ps"),
    examples="$ sampan ps -a --filter status=exited\n$ sampan ps --format '{{.Names}}: {{.Status}}'",
)
@flag("-a", "--all", help="Show all containers (default shows just running)")
@listing("-f", "--filter", kind=FILTER, help="Filter output based on conditions provided")
@option("--format", kind=STRING, default="", help=TABLE_FORMAT)
@option("-n", "--last", kind=INT, default=-1, help="Show n last created containers (includes all states)")
@flag("-l", "--latest", help="Show the latest created container (includes all states)")
@flag("--no-trunc", help="Don't truncate output")
@flag("-q", "--quiet", help="Only display container IDs")
@flag("-s", "--size", help="Display total file sizes")
def ps(
    session: Session,
    args: tuple[str, ...],
    all: bool,
    filter: tuple[tuple[str, str], ...],
    format: str,
    last: int,
    latest: bool,
    no_trunc: bool,
    quiet: bool,
    size: bool,
) -> None:
    limit = 1 if latest and last == -1 else last
    size = size or ".Size" in format
    query: dict[str, Any] = {"all": all or None, "size": size or None, "filters": filters(filter) or None}
    query["limit"] = limit if limit > 0 else None
    rows = session.call("GET", "/containers/json", query)
    records = [record(row, full=no_trunc) for row in rows]
    if quiet and not format:
        format = "{{.ID}}"
    elif quiet and format.startswith("table"):
        format = "table {{.ID}}"
    show(format, _TABLE + ("\t{{.Size}}" if size else ""), HEADERS, "ContainerContext", records)


def record(row: dict[str, Any], *, full: bool) -> dict[str, Any]:
    """The fields that a format of `ps` may use."""
    mounts = [mount.get("Name") or mount.get("Source", "") for mount in row.get("Mounts") or []]
    return {
        "ID": words.short_id(row["Id"], full=full),
        "Names": _names(row.get("Names") or [], full=full),
        "Image": _image(row, full=full),
        "Command": words.quoted(row["Command"] if full else words.clip(row["Command"], 20)),
        "CreatedAt": words.local_time(row["Created"]),
        "RunningFor": words.ago(row["Created"]),
        "Ports": words.ports(row.get("Ports") or []),
        "State": row["State"],
        "Status": _status(row, full=full),
        "Size": _size(row),
        "Labels": words.labels(row.get("Labels")),
        "_labels": row.get("Labels") or {},
        "Mounts": ",".join(mount if full else words.clip(mount, 15) for mount in mounts),
        "LocalVolumes": str(sum(mount.get("Driver") == "local" for mount in row.get("Mounts") or [])),
        "Networks": ",".join(sorted((row.get("NetworkSettings") or {}).get("Networks") or {})),
        "Platform": Platform((row.get("ImageManifestDescriptor") or {}).get("platform") or {}),
    }


class Platform(dict[str, Any]):
    """Printed as docker does (`linux/arm64/v8`), with fields in templates, an object in JSON."""

    def __str__(self) -> str:
        parts = (self.get("os"), self.get("architecture"), self.get("variant"))
        return "/".join(part for part in parts if part)


def _status(row: dict[str, Any], *, full: bool) -> str:
    """With the reason why a container failed at once, which only a Sampan engine tells."""
    reason = str(row.get("SampanReason") or "")
    if not reason or row["State"] == "running":
        return str(row["Status"])
    return f"{row['Status']}: {reason if full else words.clip(reason, 60)}"


def _names(names: list[str], *, full: bool) -> str:
    plain = [name.removeprefix("/") for name in names]
    if not full:
        plain = [name for name in plain if "/" not in name][:1] or plain[:1]
    return ",".join(plain)


def _image(row: dict[str, Any], *, full: bool) -> str:
    image = str(row["Image"])
    if not image:
        return "<no image>"
    if not full and image == row.get("ImageID"):
        return words.short_id(image, full=False)
    return image


def _size(row: dict[str, Any]) -> str:
    own = human_size(row.get("SizeRw") or 0, 3)
    virtual = row.get("SizeRootFs") or 0
    return f"{own} (virtual {human_size(virtual, 3)})" if virtual else own
