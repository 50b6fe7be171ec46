"""What this machine's kernel offers to containers, as far as validation has to know."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import NamedTuple

from sampan.errors import InvalidParameter

_V1 = "/sys/fs/cgroup"


class HostFeatures(NamedTuple):
    """What limits can be set; False makes dockerd discard a limit with a warning."""

    unified: bool
    """cgroup v2."""
    memory: bool
    swap: bool
    swappiness: bool
    reservation: bool
    oom_kill_disable: bool
    pids: bool
    cpu_shares: bool
    cpu_cfs: bool
    cpu_realtime: bool
    cpuset: bool
    blkio_weight: bool
    blkio_weight_device: bool
    blkio_throttle: bool
    cpus: int
    cpus_available: str
    mems_available: str


@lru_cache(maxsize=1)
def host_features() -> HostFeatures:
    """Looked up once: the machine does not change under a running engine."""
    cpus = len(os.sched_getaffinity(0))
    if os.path.exists(f"{_V1}/cgroup.controllers"):
        with open(f"{_V1}/cgroup.controllers", encoding="ascii") as file:
            have = set(file.read().split())
        memory, cpu, io = "memory" in have, "cpu" in have, "io" in have
        return HostFeatures(
            True, memory, memory, False, memory, False, "pids" in have, cpu, cpu, False, "cpuset" in have,
            io, io, io, cpus, _list("cpuset.cpus.effective"), _list("cpuset.mems.effective"),
        )  # fmt: skip

    def has(path: str) -> bool:
        return os.path.exists(f"{_V1}/{path}")

    return HostFeatures(
        unified=False,
        memory=has("memory/memory.limit_in_bytes"),
        swap=has("memory/memory.memsw.limit_in_bytes"),
        swappiness=has("memory/memory.swappiness"),
        reservation=has("memory/memory.soft_limit_in_bytes"),
        oom_kill_disable=has("memory/memory.oom_control"),
        pids=has("pids"),
        cpu_shares=has("cpu/cpu.shares"),
        cpu_cfs=has("cpu/cpu.cfs_quota_us"),
        cpu_realtime=has("cpu/cpu.rt_runtime_us"),
        cpuset=has("cpuset"),
        blkio_weight=has("blkio/blkio.weight") or has("blkio/blkio.bfq.weight"),
        blkio_weight_device=has("blkio/blkio.weight_device") or has("blkio/blkio.bfq.weight_device"),
        blkio_throttle=has("blkio/blkio.throttle.read_bps_device"),
        cpus=cpus,
        cpus_available=_list("cpuset/cpuset.cpus"),
        mems_available=_list("cpuset/cpuset.mems"),
    )


def _list(file: str) -> str:
    try:
        with open(f"{_V1}/{file}", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def parse_cpu_list(text: str) -> set[int]:
    """Numbers of a list such as `0-2,7`. Raises `InvalidParameter`."""
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InvalidParameter(f"invalid format: {part}")
        low, high = int(first), int(last) if dash else int(first)
        if high < low or high >= 8192:
            raise InvalidParameter(f"invalid format: {part}")
        numbers.update(range(low, high + 1))
    return numbers
