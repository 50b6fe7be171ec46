"""Usage of a container's cgroup on v2, in the form of Docker's stats."""

from __future__ import annotations

from sampan.cgroups.files import read_int, read_optional, read_table
from sampan.cgroups.interface import BlkioEntry, BlkioStats, CpuStats, MemoryStats, PidsStats, Stats
from sampan.cgroups.machine import online_cpus, system_cpu_ns, total_memory


def read_stats(directory: str) -> Stats:
    """All of it; a controller that is not enabled contributes zeros or nothing."""
    return {
        "cpu_stats": _cpu(directory),
        "memory_stats": _memory(directory),
        "blkio_stats": _blkio(directory),
        "pids_stats": _pids(directory),
    }


def _cpu(directory: str) -> CpuStats:
    table = read_table(directory + "/cpu.stat")
    return {
        "cpu_usage": {
            "total_usage": table.get("usage_usec", 0) * 1000,
            "usage_in_kernelmode": table.get("system_usec", 0) * 1000,
            "usage_in_usermode": table.get("user_usec", 0) * 1000,
        },
        "system_cpu_usage": system_cpu_ns(),
        "online_cpus": online_cpus(),
        "throttling_data": {
            "periods": table.get("nr_periods", 0),
            "throttled_periods": table.get("nr_throttled", 0),
            "throttled_time": table.get("throttled_usec", 0) * 1000,
        },
    }


def _memory(directory: str) -> MemoryStats:
    if read_optional(directory + "/memory.current") is None:
        return {}
    stats: MemoryStats = {
        "usage": read_int(directory + "/memory.current"),
        "stats": read_table(directory + "/memory.stat"),
        "limit": min(read_int(directory + "/memory.max"), total_memory()),
    }
    if ooms := read_table(directory + "/memory.events").get("oom"):
        stats["failcnt"] = ooms
    return stats


def _blkio(directory: str) -> BlkioStats:
    return {
        "io_service_bytes_recursive": parse_io_stat(read_optional(directory + "/io.stat") or "") or None,
        "io_serviced_recursive": None,
        "io_queue_recursive": None,
        "io_service_time_recursive": None,
        "io_wait_time_recursive": None,
        "io_merged_recursive": None,
        "io_time_recursive": None,
        "sectors_recursive": None,
    }


def parse_io_stat(text: str) -> list[BlkioEntry]:
    """Lines `8:0 rbytes=1 wbytes=2 …` as Docker's read and write entries. A device without figures is left out."""
    entries: list[BlkioEntry] = []
    for line in text.splitlines():
        device, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        major, _, minor = device.partition(":")
        if not values or not minor.isdigit():
            continue
        for operation, key in (("read", "rbytes"), ("write", "wbytes")):
            value = int(values.get(key, 0))
            entries.append({"major": int(major), "minor": int(minor), "op": operation, "value": value})
    return entries


def _pids(directory: str) -> PidsStats:
    if read_optional(directory + "/pids.current") is None:
        return {}
    return {
        "current": read_int(directory + "/pids.current"),
        "limit": read_int(directory + "/pids.max"),
    }
