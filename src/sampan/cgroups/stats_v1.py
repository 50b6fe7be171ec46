"""Usage of a container's cgroup on v1, in the form of Docker's stats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.cgroups.files import read, read_int, read_optional, read_table
from sampan.cgroups.machine import online_cpus, system_cpu_ns, ticks_to_ns, total_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.cgroups.interface import (
        BlkioEntry,
        BlkioStats,
        CpuStats,
        CpuUsage,
        MemoryStats,
        PidsStats,
        Stats,
    )

_BLKIO_FILES = {
    "io_service_bytes_recursive": ("blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"),
    "io_serviced_recursive": ("blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced"),
    "io_queue_recursive": ("blkio.bfq.io_queued_recursive",),
    "io_service_time_recursive": ("blkio.bfq.io_service_time_recursive",),
    "io_wait_time_recursive": ("blkio.bfq.io_wait_time_recursive",),
    "io_merged_recursive": ("blkio.bfq.io_merged_recursive",),
    "io_time_recursive": ("blkio.bfq.time_recursive",),
    "sectors_recursive": ("blkio.bfq.sectors_recursive",),
}
"""Docker's names, and the files in order of preference: BFQ counts only what passes through it."""


def read_stats(paths: Mapping[str, str]) -> Stats:
    """All of it; a controller that is not mounted contributes zeros or nothing, as with Docker."""
    return {
        "cpu_stats": _cpu(paths),
        "memory_stats": _memory(paths.get("memory")),
        "blkio_stats": _blkio(paths.get("blkio")),
        "pids_stats": _pids(paths.get("pids")),
    }


def _cpu(paths: Mapping[str, str]) -> CpuStats:
    usage: CpuUsage = {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}
    if cpuacct := paths.get("cpuacct"):
        split = read_table(cpuacct + "/cpuacct.stat")
        usage = {
            "total_usage": read_int(cpuacct + "/cpuacct.usage"),
            "percpu_usage": [int(ns) for ns in read(cpuacct + "/cpuacct.usage_percpu").split()],
            "usage_in_kernelmode": ticks_to_ns(split.get("system", 0)),
            "usage_in_usermode": ticks_to_ns(split.get("user", 0)),
        }
    throttling = read_table(paths["cpu"] + "/cpu.stat") if "cpu" in paths else {}
    return {
        "cpu_usage": usage,
        "system_cpu_usage": system_cpu_ns(),
        "online_cpus": online_cpus(),
        "throttling_data": {
            "periods": throttling.get("nr_periods", 0),
            "throttled_periods": throttling.get("nr_throttled", 0),
            "throttled_time": throttling.get("throttled_time", 0),
        },
    }


def _memory(directory: str | None) -> MemoryStats:
    if directory is None:
        return {}
    return {
        "usage": read_int(directory + "/memory.usage_in_bytes"),
        "max_usage": read_int(directory + "/memory.max_usage_in_bytes"),
        "stats": read_table(directory + "/memory.stat"),
        "failcnt": read_int(directory + "/memory.failcnt"),
        "limit": min(read_int(directory + "/memory.limit_in_bytes"), total_memory()),
    }


def _blkio(directory: str | None) -> BlkioStats:
    lists: dict[str, list[BlkioEntry]] = {name: [] for name in _BLKIO_FILES}
    for name, files in _BLKIO_FILES.items() if directory else ():
        for file in files:
            lists[name] = parse_blkio(read_optional(f"{directory}/{file}") or "")
            if lists[name]:
                break
    return lists  # type: ignore[return-value]


def parse_blkio(text: str) -> list[BlkioEntry]:
    """Lines `8:0 Read 4096` or, of files without operations, `8:0 4096`; the final `Total` line is no device's."""
    entries: list[BlkioEntry] = []
    for line in text.splitlines():
        fields = line.replace(":", " ").split()
        if len(fields) == 4:
            major, minor, operation, value = fields
        elif len(fields) == 3:
            major, minor, value = fields
            operation = ""
        else:
            continue
        entries.append(
            {"major": int(major), "minor": int(minor), "op": operation.lower(), "value": int(value)}
        )
    return entries


def _pids(directory: str | None) -> PidsStats:
    if directory is None:
        return {}
    stats: PidsStats = {"current": read_int(directory + "/pids.current")}
    limit = read(directory + "/pids.max")
    if limit != "max":
        stats["limit"] = int(limit)
    return stats
