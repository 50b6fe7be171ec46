"""stats."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from sampan.cli import words
from sampan.cli.command import flag, option, verb
from sampan.cli.formats import TABLE_FORMAT
from sampan.cli.table import Format
from sampan.cli.values import STRING
from sampan.client.http import quote
from sampan.errors import NotFound
from sampan.names.units import bytes_size

if TYPE_CHECKING:
    from sampan.cli.session import Session

_HEADERS = {
    "ID": "CONTAINER ID",
    "Container": "CONTAINER",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_TABLE = (
    "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
)


@verb(
    "[OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics",
    arity=(0, None),
    aliases=("container stats", "stats"),
)
@flag("-a", "--all", help="Show all containers (default shows just running)")
@option("--format", kind=STRING, default="", help=TABLE_FORMAT)
@flag("--no-stream", help="Disable streaming stats and only pull the first result")
@flag("--no-trunc", help="Do not truncate output")
def stats(
    session: Session, args: tuple[str, ...], all: bool, format: str, no_stream: bool, no_trunc: bool
) -> None:
    layout = Format(format, _TABLE, _HEADERS, "statsContext")
    before: dict[str, dict[str, Any]] = {}
    while True:
        samples = _samples(session, args or _names(session, all=all))
        if no_stream or before:
            if no_stream and not before and samples:
                before = samples
                time.sleep(1)  # CPU use is a rate: two samples make one
                continue
            records = [_record(now, before.get(name), full=no_trunc) for name, now in samples.items()]
            if not no_stream and layout.is_table:
                sys.stdout.write("\x1b[H\x1b[J")
            sys.stdout.write(layout.render(records))
            sys.stdout.flush()
            if no_stream:
                return
        before = samples
        time.sleep(1)


def _names(session: Session, *, all: bool) -> tuple[str, ...]:
    return tuple(row["Id"] for row in session.call("GET", "/containers/json", {"all": all or None}))


def _samples(session: Session, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    samples = {}
    for name in names:
        try:
            query = {"stream": False, "one-shot": True}
            samples[name] = session.call("GET", f"/containers/{quote(name)}/stats", query)
        except NotFound:
            if len(name) != 64:  # an id from the list may be gone by now, a name that was typed must exist
                raise
    return samples


def _record(now: dict[str, Any], before: dict[str, Any] | None, *, full: bool) -> dict[str, str]:
    memory = now.get("memory_stats") or {}
    used, limit = _memory(memory), memory.get("limit", 0)
    networks = (now.get("networks") or {}).values()
    read, written = _block_io(now.get("blkio_stats") or {})
    return {
        "ID": words.short_id(now["id"], full=full),
        "Container": words.short_id(now["id"], full=full),
        "Name": now["name"].removeprefix("/"),
        "CPUPerc": f"{_cpu_percent(now, before):.2f}%",
        "MemUsage": f"{bytes_size(used)} / {bytes_size(limit)}",
        "MemPerc": f"{used / limit * 100 if limit else 0:.2f}%",
        "NetIO": f"{words.size(sum(n['rx_bytes'] for n in networks))} / {words.size(sum(n['tx_bytes'] for n in networks))}",
        "BlockIO": f"{words.size(read)} / {words.size(written)}",
        "PIDs": str((now.get("pids_stats") or {}).get("current", 0)),
    }


def _memory(stats: dict[str, Any]) -> int:
    """What docker counts as used: without the page cache that can go at any time."""
    usage = int(stats.get("usage", 0))
    details = stats.get("stats") or {}
    for name in ("total_inactive_file", "inactive_file"):  # v1, v2
        if name in details:
            return usage - details[name] if details[name] < usage else usage
    return usage


def _cpu_percent(now: dict[str, Any], before: dict[str, Any] | None) -> float:
    """Share of one CPU since the sample before, in percent."""
    current = now["cpu_stats"]
    earlier = (before or {}).get("cpu_stats") or now.get("precpu_stats") or {}
    usage = current["cpu_usage"]["total_usage"] - (earlier.get("cpu_usage") or {}).get("total_usage", 0)
    system = current.get("system_cpu_usage", 0) - earlier.get("system_cpu_usage", 0)
    cpus = current.get("online_cpus") or len(current["cpu_usage"].get("percpu_usage") or []) or 1
    return usage / system * cpus * 100 if system > 0 and usage > 0 else 0.0


def _block_io(stats: dict[str, Any]) -> tuple[int, int]:
    read = written = 0
    for entry in stats.get("io_service_bytes_recursive") or []:
        operation = entry["op"].lower()
        read += entry["value"] if operation == "read" else 0
        written += entry["value"] if operation == "write" else 0
    return read, written
