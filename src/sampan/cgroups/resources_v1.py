"""Limits of the OCI runtime spec written to v1 controllers.

Which key goes into which file is the specification's (config-linux.md, "Control groups"); the orders of writing and
the special cases are runc's, because clients of `docker update` rely on them.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from sampan.cgroups.devices import fold
from sampan.cgroups.files import read_int, read_optional, write, write_each
from sampan.cgroups.interface import CgroupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sampan.oci.runtime import (
        CPU,
        BlockIO,
        DeviceCgroup,
        HugepageLimit,
        Memory,
        NetworkResources,
        Rdma,
        Resources,
    )

_UNLIMITED_FROM = 2**63 - 4096
"""The kernel shows "no limit" as the largest multiple of a page."""


def apply(paths: Mapping[str, str], resources: Resources) -> None:
    """Write every limit that `resources` names, except devices."""
    if resources.get("unified"):
        raise CgroupError("invalid configuration: cannot use unified on cgroup v1")
    _Cpu(paths).apply(resources.get("cpu") or {})
    _apply_cpuset(paths, resources.get("cpu") or {})
    _apply_memory(paths, resources.get("memory") or {})
    pids = resources.get("pids")
    if pids and pids["limit"]:
        limit = pids["limit"]
        write(_directory(paths, "pids") + "/pids.max", limit if limit > 0 else "max")
    _apply_blkio(paths, resources.get("blockIO") or {})
    _apply_hugetlb(paths, resources.get("hugepageLimits") or [])
    _apply_network(paths, resources.get("network") or {})
    _apply_rdma(paths, resources.get("rdma") or {})


def apply_devices(paths: Mapping[str, str], rules: Iterable[DeviceCgroup]) -> None:
    """Make the device list what `rules` fold to. A kernel without the controller allows everything, which is refused
    only when something would have had to be denied.
    """
    devices = fold(rules)
    if "devices" not in paths and devices.allow_all and not devices.exceptions:
        return
    directory = _directory(paths, "devices")
    allow, deny = directory + "/devices.allow", directory + "/devices.deny"
    write(allow if devices.allow_all else deny, "a")
    exceptions = deny if devices.allow_all else allow
    if devices.exceptions:
        write_each(exceptions, [f"{key} {access}" for key, access in devices.exceptions.items()])


def _directory(paths: Mapping[str, str], controller: str) -> str:
    try:
        return paths[controller]
    except KeyError:
        raise CgroupError(
            f"cannot set a {controller} limit: this kernel has no {controller} cgroup"
        ) from None


class _Cpu:
    """The cpu controller's files, whose order of writing depends on what is there."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = paths

    def apply(self, cpu: CPU) -> None:
        if cpu.get("shares"):
            self._write_shares(cpu["shares"])
        self._write_realtime(cpu)
        self._write_bandwidth(cpu)
        if cpu.get("idle") is not None:
            write(self._file("cpu.idle"), cpu["idle"])

    def _file(self, name: str) -> str:
        return _directory(self._paths, "cpu") + "/" + name

    def _write_shares(self, shares: int) -> None:
        """The kernel clamps silently; a value out of its range is the user's error."""
        file = self._file("cpu.shares")
        write(file, shares)
        actual = read_int(file)
        if shares > actual:
            raise CgroupError(f"the maximum allowed cpu-shares is {actual}")
        if shares < actual:
            raise CgroupError(f"the minimum allowed cpu-shares is {actual}")

    def _write_realtime(self, cpu: CPU) -> None:
        if cpu.get("realtimePeriod"):
            write(self._file("cpu.rt_period_us"), cpu["realtimePeriod"])
        if cpu.get("realtimeRuntime"):
            write(self._file("cpu.rt_runtime_us"), cpu["realtimeRuntime"])

    def _write_bandwidth(self, cpu: CPU) -> None:
        """Period and quota: either order can pass through a state that the kernel refuses, so try both.

        A burst above the quota is refused too: it goes down before the quota does, and up after it.
        """
        quota, period, burst = cpu.get("quota"), cpu.get("period"), cpu.get("burst")
        burst_written = False
        if burst is not None:
            burst_written = self._try(self._file("cpu.cfs_burst_us"), burst)
        period_written = not period or self._try(self._file("cpu.cfs_period_us"), period)
        if quota:
            write(self._file("cpu.cfs_quota_us"), quota)
        if not period_written and period:
            write(self._file("cpu.cfs_period_us"), period)
        if burst is not None and not burst_written:
            write(self._file("cpu.cfs_burst_us"), burst)

    @staticmethod
    def _try(file: str, value: int) -> bool:
        """False when the kernel wants another file changed first."""
        try:
            write(file, value)
        except CgroupError as error:
            if error.errno != errno.EINVAL:
                raise
            return False
        return True


def _apply_cpuset(paths: Mapping[str, str], cpu: CPU) -> None:
    if cpu.get("cpus"):
        write(_directory(paths, "cpuset") + "/cpuset.cpus", cpu["cpus"])
    if cpu.get("mems"):
        write(_directory(paths, "cpuset") + "/cpuset.mems", cpu["mems"])


def _apply_memory(paths: Mapping[str, str], memory: Memory) -> None:
    if not any(value for value in memory.values()) and memory.get("swappiness") is None:
        return
    directory = _directory(paths, "memory")
    _write_memory_and_swap(directory, memory)
    if memory.get("reservation"):
        write(directory + "/memory.soft_limit_in_bytes", memory["reservation"])
    if memory.get("kernelTCP"):
        write(directory + "/memory.kmem.tcp.limit_in_bytes", memory["kernelTCP"])
    # `kernel` is ignored: kmem limits were removed from Linux 6.1 and never worked reliably before.
    if memory.get("disableOOMKiller"):
        write(directory + "/memory.oom_control", "1")
    swappiness = memory.get("swappiness")
    if swappiness is not None and swappiness >= 0:
        if swappiness > 100:
            raise CgroupError(f"invalid memory swappiness value: {swappiness} (valid range is 0-100)")
        write(directory + "/memory.swappiness", swappiness)


def _write_memory_and_swap(directory: str, memory: Memory) -> None:
    """memory ≤ memory+swap must hold after every write: which goes first depends on the present limit."""
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    swap_file = directory + "/memory.memsw.limit_in_bytes"
    if limit == -1 and swap == 0 and read_optional(swap_file) is not None:
        swap = -1
    if limit and swap:
        present = read_int(directory + "/memory.limit_in_bytes")
        if present >= _UNLIMITED_FROM:
            present = _UNLIMITED_FROM
        if swap == -1 or present < swap:
            write(swap_file, swap)
            _write_memory(directory, limit)
        else:
            _write_memory(directory, limit)
            write(swap_file, swap)
    elif limit:
        _write_memory(directory, limit)
    elif swap:
        write(swap_file, swap)


def _write_memory(directory: str, limit: int) -> None:
    try:
        write(directory + "/memory.limit_in_bytes", limit)
    except CgroupError as error:
        if error.errno != errno.EBUSY:
            raise
        usage = read_int(directory + "/memory.usage_in_bytes")
        peak = read_int(directory + "/memory.max_usage_in_bytes")
        raise CgroupError(
            f"unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})", errno.EBUSY
        ) from error


def _apply_blkio(paths: Mapping[str, str], blkio: BlockIO) -> None:
    if not any(blkio.values()):
        return
    directory = _directory(paths, "blkio")
    # The weight belongs to the scheduler: CFQ's file until Linux 4.20, BFQ's since.
    prefix = "blkio.bfq" if read_optional(directory + "/blkio.bfq.weight") is not None else "blkio"
    if blkio.get("weight"):
        write(f"{directory}/{prefix}.weight", blkio["weight"])
    if blkio.get("leafWeight"):
        write(directory + "/blkio.leaf_weight", blkio["leafWeight"])
    for device in blkio.get("weightDevice") or []:
        number = f"{device['major']}:{device['minor']}"
        if device.get("weight"):
            write(f"{directory}/{prefix}.weight_device", f"{number} {device['weight']}")
        if device.get("leafWeight"):
            write(directory + "/blkio.leaf_weight_device", f"{number} {device['leafWeight']}")
    for file, throttles in (
        ("read_bps_device", blkio.get("throttleReadBpsDevice")),
        ("write_bps_device", blkio.get("throttleWriteBpsDevice")),
        ("read_iops_device", blkio.get("throttleReadIOPSDevice")),
        ("write_iops_device", blkio.get("throttleWriteIOPSDevice")),
    ):
        for throttle in throttles or []:
            value = f"{throttle['major']}:{throttle['minor']} {throttle['rate']}"
            write(f"{directory}/blkio.throttle.{file}", value)


def _apply_hugetlb(paths: Mapping[str, str], limits: list[HugepageLimit]) -> None:
    for limit in limits:
        prefix = f"{_directory(paths, 'hugetlb')}/hugetlb.{limit['pageSize']}"
        write(prefix + ".limit_in_bytes", limit["limit"])
        if read_optional(prefix + ".rsvd.limit_in_bytes") is not None:
            write(prefix + ".rsvd.limit_in_bytes", limit["limit"])


def _apply_network(paths: Mapping[str, str], network: NetworkResources) -> None:
    if network.get("classID"):
        write(_directory(paths, "net_cls") + "/net_cls.classid", network["classID"])
    for priority in network.get("priorities") or []:
        file = _directory(paths, "net_prio") + "/net_prio.ifpriomap"
        write(file, f"{priority['name']} {priority['priority']}")


def _apply_rdma(paths: Mapping[str, str], rdma: Mapping[str, Rdma]) -> None:
    for device, limits in rdma.items():
        write(_directory(paths, "rdma") + "/rdma.max", rdma_line(device, limits))


def rdma_line(device: str, limits: Rdma) -> str:
    """One line of `rdma.max`, the same on v1 and v2."""
    parts = [device]
    if limits.get("hcaHandles") is not None:
        parts.append(f"hca_handle={limits['hcaHandles']}")
    if limits.get("hcaObjects") is not None:
        parts.append(f"hca_object={limits['hcaObjects']}")
    return " ".join(parts)
