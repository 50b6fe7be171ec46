"""Limits of the OCI runtime spec, which speaks v1, converted and written to v2 files.

Conversions are those of the newest runc (opencontainers/cgroups), so that a container weighs the same whichever
runtime made it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sampan.cgroups.files import read_int, read_optional, write
from sampan.cgroups.interface import CgroupError
from sampan.cgroups.resources_v1 import rdma_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.oci.runtime import CPU, BlockIO, Memory, Resources

_PERIOD = 100_000
"""The kernel's default, in microseconds."""


def apply(directory: str, resources: Resources) -> None:
    """Write every limit that `resources` names, except devices; `unified` last, so that it wins."""
    _apply_cpu(directory, resources.get("cpu") or {})
    _apply_memory(directory, resources.get("memory") or {})
    pids = resources.get("pids")
    if pids and pids["limit"]:
        write(directory + "/pids.max", pids["limit"] if pids["limit"] > 0 else "max")
    _apply_io(directory, resources.get("blockIO") or {})
    for huge in resources.get("hugepageLimits") or []:
        prefix = f"{directory}/hugetlb.{huge['pageSize']}"
        write(prefix + ".max", huge["limit"])
        if read_optional(prefix + ".rsvd.max") is not None:
            write(prefix + ".rsvd.max", huge["limit"])
    for device, limits in (resources.get("rdma") or {}).items():
        write(directory + "/rdma.max", rdma_line(device, limits))
    _apply_unified(directory, resources.get("unified") or {})


def weight_of_shares(shares: int) -> int:
    """cpu.shares (2…262144, default 1024) as cpu.weight (1…10000, default 100); 0 stays 0, "not set".

    A curve through the three pairs of minimum, default and maximum: quadratic in the logarithms.
    """
    if shares == 0:
        return 0
    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    logarithm = math.log2(shares)
    exponent = (logarithm * logarithm + 125 * logarithm) / 612.0 - 7.0 / 34.0
    return math.ceil(10**exponent)


def io_weight_of_blkio(weight: int) -> int:
    """blkio weight (10…1000) as io.weight (1…10000), linearly; 0 stays 0."""
    return 1 + (weight - 10) * 9999 // 990 if weight else 0


def swap_max(limit: int, memory_and_swap: int) -> int:
    """v1's limit of memory and swap together as v2's limit of swap alone; 0 unset, -1 unlimited as in v1.

    Raises CgroupError when swap is to be limited without memory, or below it.
    """
    if memory_and_swap in (-1, 0):
        return memory_and_swap
    if limit in (0, -1):
        raise CgroupError("unable to set swap limit without memory limit")
    if memory_and_swap < limit:
        raise CgroupError("memory+swap limit should be >= memory limit")
    return memory_and_swap - limit


def _apply_cpu(directory: str, cpu: CPU) -> None:
    if cpu.get("idle") is not None:
        write(directory + "/cpu.idle", cpu["idle"])
    if cpu.get("shares") and not cpu.get("idle"):  # an idle cgroup has no weight
        write(directory + "/cpu.weight", weight_of_shares(cpu["shares"]))
    quota, period, burst = cpu.get("quota") or 0, cpu.get("period") or 0, cpu.get("burst")
    if burst is not None and not quota:
        write(directory + "/cpu.max.burst", burst)
    if quota or period:
        if burst is not None and read_int(directory + "/cpu.max.burst") > burst:
            write(directory + "/cpu.max.burst", burst)  # down before the quota, up after it
        write(directory + "/cpu.max", f"{quota if quota > 0 else 'max'} {period or _PERIOD}")
        if burst is not None:
            write(directory + "/cpu.max.burst", burst)
    if cpu.get("realtimeRuntime") or cpu.get("realtimePeriod"):
        raise CgroupError("cgroup v2 has no limit of real-time CPU time (cpu-rt-runtime, cpu-rt-period)")
    if cpu.get("cpus"):
        write(directory + "/cpuset.cpus", cpu["cpus"])
    if cpu.get("mems"):
        write(directory + "/cpuset.mems", cpu["mems"])


def _apply_memory(directory: str, memory: Memory) -> None:
    """kernel, kernelTCP, swappiness and disableOOMKiller have no counterpart on v2 and are passed over, as by runc."""
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit == -1 and swap == 0:
        swap = -1
    swap = swap_max(limit, swap)
    both = bool(memory.get("swap")) and memory.get("swap") == limit
    if swap or both:
        file = directory + "/memory.swap.max"
        # A kernel without swap accounting cannot limit it; unlimited it is already.
        if swap > 0 or read_optional(file) is not None:
            write(file, swap if swap >= 0 else "max")
    if limit:
        _check_usage(directory, memory, limit)
        write(directory + "/memory.max", limit if limit > 0 else "max")
    if memory.get("reservation"):
        reservation = memory["reservation"]
        write(directory + "/memory.low", reservation if reservation > 0 else "max")


def _check_usage(directory: str, memory: Memory, limit: int) -> None:
    """`checkBeforeUpdate`: v2 would kill processes at once where v1 refuses the limit."""
    if memory.get("checkBeforeUpdate") and limit > 0:
        usage = read_int(directory + "/memory.current")
        if usage >= limit:
            raise CgroupError(f"rejecting memory limit {limit}, because current usage is {usage}")


def _apply_io(directory: str, blkio: BlockIO) -> None:
    if not any(blkio.values()):
        return
    bfq = directory + "/io.bfq.weight"
    has_bfq = read_optional(bfq) is not None
    if weight := blkio.get("weight"):
        if has_bfq:
            write(bfq, weight)
        else:
            write(directory + "/io.weight", io_weight_of_blkio(weight))
    for device in blkio.get("weightDevice") or []:
        if device.get("weight"):
            number = f"{device['major']}:{device['minor']}"
            if has_bfq:
                write(bfq, f"{number} {device['weight']}")
            else:
                write(directory + "/io.weight", f"{number} {io_weight_of_blkio(device['weight'])}")
    for key, throttles in (
        ("rbps", blkio.get("throttleReadBpsDevice")),
        ("wbps", blkio.get("throttleWriteBpsDevice")),
        ("riops", blkio.get("throttleReadIOPSDevice")),
        ("wiops", blkio.get("throttleWriteIOPSDevice")),
    ):
        for throttle in throttles or []:
            rate = throttle["rate"] or "max"
            write(directory + "/io.max", f"{throttle['major']}:{throttle['minor']} {key}={rate}")


def _apply_unified(directory: str, unified: Mapping[str, str]) -> None:
    """Files by name, one write per line of the value. A name with a slash would reach another cgroup."""
    for name, value in unified.items():
        if "/" in name:
            raise CgroupError(f'unified resource "{name}" must be a file name (no slashes)')
        controller, dot, _ = name.partition(".")
        if not dot:
            raise CgroupError(f'unified resource "{name}" must be in the form CONTROLLER.PARAMETER')
        available = (read_optional(directory + "/cgroup.controllers") or "").split()
        if controller != "cgroup" and controller not in available:
            raise CgroupError(
                f'unified resource "{name}" can\'t be set: controller "{controller}" not available'
            )
        for line in value.splitlines():
            write(f"{directory}/{name}", line)
