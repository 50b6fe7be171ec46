"""A container's scope in systemd's terms: its names, and the limits of the runtime specification as properties of a unit.

systemd writes a unit's limits anew whenever it is reloaded: what only the cgroup's files had would then be lost. So each limit
is set twice, in the files by the runtime and here. The conversions are runc's (opencontainers/cgroups).
Devices are the runtime's alone: without a policy of its own systemd leaves them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sampan.cgroups.interface import CgroupError
from sampan.cgroups.resources_v2 import io_weight_of_blkio, swap_max, weight_of_shares

if TYPE_CHECKING:
    from sampan.cgroups.systemd import Property
    from sampan.oci.runtime import Resources

_DEFAULT_SLICE = "system.slice"
_INFINITY = 2**64 - 1
_PER_SECOND = 1_000_000
_STEP = 10_000
"""systemd keeps a quota in steps of 10 ms per second, and would round it down."""


class Scope(NamedTuple):
    """Where a container belongs."""

    slice: str
    unit: str

    @property
    def path(self) -> str:
        """Of its cgroup, absolute beneath the hierarchies' roots: `a-b.slice` lies in `a.slice` (systemd.slice(5))."""
        parts = self.slice.removesuffix(".slice").split("-") if self.slice != "-.slice" else []
        above = ["-".join(parts[: length + 1]) + ".slice" for length in range(len(parts))]
        return "/" + "/".join([*above, self.unit])


def parse(cgroups_path: str, container_id: str) -> Scope:
    """`slice:prefix:name` as `--systemd-cgroup` wants it; "" means one beneath system.slice. Raises CgroupError in runc's words."""
    parts = cgroups_path.split(":") if cgroups_path else ["", "sampan", container_id]
    if len(parts) != 3:
        raise CgroupError(
            'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got'
            f' "{cgroups_path}" instead'
        )
    slice_name, prefix, name = parts
    slice_name = slice_name or _DEFAULT_SLICE
    if not _is_slice(slice_name):
        raise CgroupError(f"invalid slice name: {slice_name}")
    if not name or "/" in prefix + name or name.endswith(".slice"):
        raise CgroupError(f"invalid scope name: {prefix}:{name}")
    return Scope(slice_name, f"{prefix}-{name}.scope" if prefix else f"{name}.scope")


def _is_slice(name: str) -> bool:
    stem = name.removesuffix(".slice")
    return name == "-.slice" or (stem != name and "/" not in name and all(stem.split("-")))


def properties(
    scope: Scope, container_id: str, pid: int, resources: Resources, *, v2: bool
) -> list[Property]:
    """What a new scope gets: the container's first process, all accounting, and its limits."""
    accounting = ("CPU", "Memory", "Tasks", "IO" if v2 else "BlockIO")
    return [
        ("Description", ("s", f"sampan container {container_id}")),
        ("Slice", ("s", scope.slice)),
        ("PIDs", ("au", [pid])),
        # The cgroups beneath are the container's business.
        ("Delegate", ("b", True)),
        ("DefaultDependencies", ("b", False)),
        *((f"{name}Accounting", ("b", True)) for name in accounting),
        *limits(resources, v2=v2),
    ]


def limits(resources: Resources, *, v2: bool) -> list[Property]:
    """Limits that are named, in v1's or v2's properties. Raises CgroupError for a contradiction."""
    values: dict[str, int] = {}
    cpu, memory = resources.get("cpu") or {}, resources.get("memory") or {}
    if shares := cpu.get("shares"):
        values["CPUWeight" if v2 else "CPUShares"] = weight_of_shares(shares) if v2 else shares
    if (quota := cpu.get("quota")) is not None and quota != 0:
        values |= _quota(quota, cpu.get("period") or 100_000)
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit:
        values["MemoryMax" if v2 else "MemoryLimit"] = _or_infinity(limit)
    if v2 and memory.get("reservation"):
        values["MemoryLow"] = _or_infinity(memory["reservation"])
    if v2 and swap:
        values["MemorySwapMax"] = _or_infinity(swap_max(limit, swap))
    pids = resources.get("pids")
    if pids and pids["limit"]:
        values["TasksMax"] = _or_infinity(pids["limit"])
    if weight := (resources.get("blockIO") or {}).get("weight"):
        values["IOWeight" if v2 else "BlockIOWeight"] = io_weight_of_blkio(weight) if v2 else weight
    found: list[Property] = [(name, ("t", value)) for name, value in values.items()]
    if v2:  # v1's cpusets are not systemd's business
        for name, numbers in (("AllowedCPUs", cpu.get("cpus")), ("AllowedMemoryNodes", cpu.get("mems"))):
            if numbers:
                found.append((name, ("ay", _bits(numbers))))
    return found


def _quota(quota: int, period: int) -> dict[str, int]:
    if quota < 0:
        return {"CPUQuotaPerSecUSec": _INFINITY}
    per_second = quota * _PER_SECOND // period
    return {
        "CPUQuotaPerSecUSec": -(-per_second // _STEP) * _STEP,
        "CPUQuotaPeriodUSec": period,
    }


def _or_infinity(value: int) -> int:
    return value if value >= 0 else _INFINITY


def _bits(numbers: str) -> bytes:
    """`0-2,5` as a mask, least significant byte first. Raises CgroupError."""
    mask = 0
    for part in numbers.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or not (last or first).isdigit() or int(last or first) >= 1 << 16:
            raise CgroupError(f"invalid list of CPUs or memory nodes: {numbers}")
        for number in range(int(first), int(last or first) + 1):
            mask |= 1 << number
    return mask.to_bytes((mask.bit_length() + 7) // 8 or 1, "little")
