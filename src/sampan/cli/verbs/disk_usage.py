"""system df."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.cli import words
from sampan.cli.command import flag, option, verb
from sampan.cli.formats import TABLE_FORMAT
from sampan.cli.table import show
from sampan.cli.values import STRING
from sampan.cli.verbs import container_list, image_list
from sampan.cli.verbs.volume import volume_record
from sampan.names.units import human_size

if TYPE_CHECKING:
    from sampan.cli.session import Session

_HEADERS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_TABLE = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"


@verb("[OPTIONS]", "Show docker disk usage", aliases=("system df",))
@option("--format", kind=STRING, default="", help=TABLE_FORMAT)
@flag("-v", "--verbose", help="Show detailed information on space usage")
def df(session: Session, args: tuple[str, ...], format: str, verbose: bool) -> None:
    usage = session.engine.disk_usage()
    if verbose:
        _details(usage)
    else:
        show(format, _TABLE, _HEADERS, "diskUsageContext", _summary(usage))


def _summary(usage: dict[str, Any]) -> list[dict[str, str]]:
    images, containers = usage.get("Images") or [], usage.get("Containers") or []
    volumes, cache = usage.get("Volumes") or [], usage.get("BuildCache") or []
    total = usage.get("LayersSize", 0)
    used = sum(
        row["Size"] - row["SharedSize"]
        for row in images
        if row.get("Containers", 0) != 0 and row["Size"] >= 0 and row.get("SharedSize", -1) >= 0
    )
    running = [row for row in containers if row["State"] in ("running", "paused", "restarting")]
    stopped = sum(row.get("SizeRw") or 0 for row in containers if row not in running)
    sizes = [(row.get("UsageData") or {"Size": 0, "RefCount": 0}) for row in volumes]
    idle = sum(size["Size"] for size in sizes if size["RefCount"] == 0)
    caches = sum(row["Size"] for row in cache if not row.get("Shared"))
    free_cache = sum(row["Size"] for row in cache if not row.get("Shared") and not row.get("InUse"))
    active = sum(row.get("Containers", 0) > 0 for row in images)
    return [
        _row("Images", len(images), active, total, total - used, percent=True),
        _row(
            "Containers",
            len(containers),
            len(running),
            sum(row.get("SizeRw") or 0 for row in containers),
            stopped,
        ),
        _row(
            "Local Volumes",
            len(volumes),
            sum(s["RefCount"] > 0 for s in sizes),
            sum(s["Size"] for s in sizes),
            idle,
        ),
        _row(
            "Build Cache",
            len(cache),
            sum(bool(row.get("InUse")) for row in cache),
            caches,
            free_cache,
            plain=True,
        ),
    ]


def _row(
    kind: str, count: int, active: int, size: int, free: int, *, percent: bool = False, plain: bool = False
) -> dict[str, str]:
    reclaimable = human_size(free)
    if size > 0 and not plain and (percent or free >= 0):
        reclaimable += f" ({free * 100 // size}%)"
    return {
        "Type": kind,
        "TotalCount": str(count),
        "Active": str(active),
        "Size": human_size(size),
        "Reclaimable": reclaimable,
    }


def _details(usage: dict[str, Any]) -> None:
    print("Images space usage:\n")
    records = []
    for row in usage.get("Images") or []:
        record = next(
            image_list.image_records(row, full=False, digests=False)
        )  # an image counts once, by its first name
        unique = row["Size"] - max(row.get("SharedSize", 0), 0)
        shared = human_size(max(row.get("SharedSize", 0), 0))
        records.append(record | {"UniqueSize": human_size(unique), "SharedSize": shared})
    columns = "Repository Tag ID CreatedSince Size SharedSize UniqueSize Containers"
    show("", _columns(columns), image_list.HEADERS, "imageContext", records)
    print("\nContainers space usage:\n")
    containers = [_container(row) for row in usage.get("Containers") or []]
    columns = "ID Image Command LocalVolumes Size RunningFor Status Names"
    show("", _columns(columns), container_list.HEADERS, "containerContext", containers)
    print("\nLocal Volumes space usage:\n")
    volumes = [volume_record(row) for row in usage.get("Volumes") or []]
    headers = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}
    show("", _columns("Name Links Size"), headers, "volumeContext", volumes)
    cache = usage.get("BuildCache") or []
    print(f"\nBuild cache usage: {human_size(sum(row['Size'] for row in cache if not row.get('Shared')))}\n")
    headers = {"ID": "CACHE ID", "Type": "CACHE TYPE", "LastUsed": "LAST USED"}
    table = _columns("ID Type Size Created LastUsed Usage Shared")
    show("", table, headers, "buildCacheContext", [_cache(row) for row in cache])


def _columns(names: str) -> str:
    return "table " + "\t".join(f"{{{{.{name}}}}}" for name in names.split())


def _container(row: dict[str, Any]) -> dict[str, Any]:
    return container_list.record(row, full=False) | {"Size": human_size(row.get("SizeRw") or 0, 3)}


def _cache(row: dict[str, Any]) -> dict[str, str]:
    return {
        "ID": words.short_id(row["ID"], full=False),
        "Type": row["Type"],
        "Size": human_size(row["Size"]),
        "Created": row.get("CreatedAt", ""),
        "LastUsed": row.get("LastUsedAt") or "",
        "Usage": str(row.get("UsageCount", 0)),
        "Shared": "true" if row.get("Shared") else "false",
    }
