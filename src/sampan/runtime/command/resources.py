"""update and events: a container's limits and what it uses."""

from __future__ import annotations

import json
import os
import select
import sys
from typing import TYPE_CHECKING, Any

from sampan.errors import InvalidParameter, SampanError
from sampan.runtime.command import state, supervision
from sampan.runtime.command.lifecycle import text_of

if TYPE_CHECKING:
    from sampan.cgroups.interface import Stats
    from sampan.oci.runtime import Resources
    from sampan.runtime.command.arguments import Parsed
    from sampan.runtime.command.main import Context

_NUMBERS = {
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "pids-limit": ("pids", "limit"),
    "blkio-weight": ("blockIO", "weight"),
}
_TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
_RESOURCE_DIRECTOR = {
    "l3-cache-schema": "Intel RDT/CAT: l3 cache schema",
    "mem-bw-schema": "Intel RDT/MBA: memory bandwidth schema",
}
"""What needs a processor with resource control and a kernel that has it mounted: refused in runc's words."""
_INTERVAL = 5.0


def update(context: Context, options: Parsed) -> None:
    """Change what is named, leave the rest."""
    try:
        container = state.load(context.root, options.rest[0])
        for name, what in _RESOURCE_DIRECTOR.items():
            if options.text(name):
                context.fail(f"{what} is not enabled")
        resources = _resources(options)
        supervision.change(container, resources)
        container.cgroup.update(resources)
        known: dict[str, Any] = container.record["spec"]["linux"].setdefault("resources", {})  # type: ignore[assignment]
        for section, values in resources.items():
            if isinstance(values, dict):
                known.setdefault(section, {}).update(values)
        container.save()
    except (SampanError, OSError, ValueError) as error:
        context.fail(text_of(error))


def _resources(options: Parsed) -> Resources:
    from sampan.oci.validation import check_resources

    source = options.text("resources")
    if source:
        if source == "-":
            return check_resources(json.load(sys.stdin))
        with open(source, encoding="utf-8") as file:
            return check_resources(json.load(file))
    document: dict[str, dict[str, object]] = {}
    for name, (section, key) in _NUMBERS.items():
        if options.text(name):
            document.setdefault(section, {})[key] = _number(name, options.text(name))
    for name, (section, key) in _TEXTS.items():
        if options.text(name):
            document.setdefault(section, {})[key] = options.text(name)
    return check_resources(document)


def _number(name: str, text: str) -> int:
    """A number of bytes may have a unit (`64m`), as runc takes it."""
    scale = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}.get(text[-1:].lower())
    try:
        return int(text[:-1]) * scale if scale and name.startswith("memory") else int(text)
    except ValueError:
        kind = "Int" if name in ("cpu-quota", "cpu-rt-runtime") else "Uint"
        reason = (
            f"invalid size: '{text}'"
            if name.startswith("memory")
            else f'strconv.Parse{kind}: parsing "{text}": invalid syntax'
        )
        raise InvalidParameter(f"invalid value for {name}: {reason}") from None


def events(context: Context, options: Parsed) -> None:
    """Statistics once (--stats), or until the container's end, with out-of-memory events."""
    interval = options.seconds("interval")
    interval = _INTERVAL if interval is None else interval
    try:
        container = state.load(context.root, options.rest[0])
        if interval <= 0:
            context.fail("duration interval must be greater than 0")
        if not container.is_alive():
            context.fail("container with id " + container.record["id"] + " is not running")
        if options.flag("stats"):
            _print(container, "stats", _statistics(container.cgroup.stats()))
        else:
            _follow(container, interval)
    except (SampanError, OSError) as error:
        context.fail(str(error))


def _follow(container: state.Container, interval: float) -> None:
    pidfd = os.pidfd_open(container.record["pid"])
    watch = container.cgroup.watch_oom()
    try:
        while True:
            ready = select.select([pidfd, watch.fileno()], [], [], interval)[0]
            if watch.fileno() in ready and watch.read():
                _print(container, "oom", None)
            if pidfd in ready:
                return
            if not ready:
                _print(container, "stats", _statistics(container.cgroup.stats()))
    finally:
        watch.close()
        os.close(pidfd)


def _print(container: state.Container, kind: str, data: object) -> None:
    event: dict[str, object] = {"type": kind, "id": container.record["id"]}
    if data is not None:
        event["data"] = data
    sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def _statistics(stats: Stats) -> dict[str, object]:
    """runc's shape of what `Cgroup.stats` has in Docker's."""
    cpu = stats["cpu_stats"]
    usage = cpu["cpu_usage"]
    memory = stats["memory_stats"]
    raw = memory.get("stats", {})
    throttling = cpu["throttling_data"]
    processor: dict[str, object] = {
        "total": usage.get("total_usage", 0),
        "kernel": usage.get("usage_in_kernelmode", 0),
        "user": usage.get("usage_in_usermode", 0),
    }
    if usage.get("percpu_usage"):
        processor["percpu"] = usage["percpu_usage"]
    limits = {"limit": memory.get("limit", 0), "usage": memory.get("usage", 0)}
    limits |= {"max": memory.get("max_usage", 0), "failcnt": memory.get("failcnt", 0)}
    return {
        "cpu": {
            "usage": processor,
            "throttling": {
                "periods": throttling["periods"],
                "throttledPeriods": throttling["throttled_periods"],
                "throttledTime": throttling["throttled_time"],
            },
        },
        "memory": {"cache": raw.get("cache", raw.get("file", 0)), "usage": limits, "raw": raw},
        "pids": dict(stats["pids_stats"]),
        "blkio": _block_io(stats),
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _block_io(stats: Stats) -> dict[str, object]:
    names = {
        "ioServiceBytesRecursive": "io_service_bytes_recursive",
        "ioServicedRecursive": "io_serviced_recursive",
        "ioQueueRecursive": "io_queue_recursive",
        "ioServiceTimeRecursive": "io_service_time_recursive",
        "ioWaitTimeRecursive": "io_wait_time_recursive",
        "ioMergedRecursive": "io_merged_recursive",
        "ioTimeRecursive": "io_time_recursive",
        "sectorsRecursive": "sectors_recursive",
    }
    blkio: dict[str, Any] = dict(stats["blkio_stats"])
    return {theirs: blkio[ours] for theirs, ours in names.items() if blkio.get(ours)}
