"""What a container's cgroup can do, whatever the machine's cgroup layout: the seam to `runtime` and `containers`.

A container's cgroup lives like this::

    layout = detect()                            # once per process; v1, hybrid or v2
    group = layout.cgroup("/docker/" + id)       # a name; nothing exists yet
    group.create()                               # one directory per hierarchy (v1) or one (v2)
    with group.entrance() as entrance: ...       # the process that is cloned next goes in by itself
    group.apply(spec["linux"]["resources"])      # limits and the device list, before the program runs
    ...
    group.update(resources)                      # `docker update`: only what is named changes
    group.kill(); group.delete()

On v1 a parked process waits in a group `/docker/parked-…`, and later `parked.rename("/docker/" + id)`; `layout.can_rename` tells
whether the machine is so. Whoever moves *another* process (`attach`) waits for an RCU grace period, 9 to 14 ms.

Everything here is synchronous and imports nothing heavy, because the zygote and the shims use it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TypedDict

from sampan.errors import SystemFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.oci.runtime import Resources


class CgroupError(SystemFailure):
    """The kernel refused a cgroup operation; the message names the file and the value, `errno` says why."""

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class Throttling(TypedDict):
    periods: int
    throttled_periods: int
    throttled_time: int
    """Nanoseconds."""


class CpuUsage(TypedDict, total=False):
    total_usage: int
    """Nanoseconds, as the two below."""
    percpu_usage: list[int]
    """v1 only."""
    usage_in_kernelmode: int
    usage_in_usermode: int


class CpuStats(TypedDict):
    cpu_usage: CpuUsage
    system_cpu_usage: int
    """Nanoseconds all CPUs of the machine have spent, idle included."""
    online_cpus: int
    throttling_data: Throttling


class MemoryStats(TypedDict, total=False):
    """Bytes. `stats` holds the kernel's memory.stat under its own names. v2 has no max_usage and no failcnt."""

    usage: int
    max_usage: int
    failcnt: int
    limit: int
    stats: dict[str, int]


class BlkioEntry(TypedDict):
    major: int
    minor: int
    op: str
    value: int


class BlkioStats(TypedDict):
    """Each list may be null, as Docker prints it on v2 and where the kernel has no such file."""

    io_service_bytes_recursive: list[BlkioEntry] | None
    io_serviced_recursive: list[BlkioEntry] | None
    io_queue_recursive: list[BlkioEntry] | None
    io_service_time_recursive: list[BlkioEntry] | None
    io_wait_time_recursive: list[BlkioEntry] | None
    io_merged_recursive: list[BlkioEntry] | None
    io_time_recursive: list[BlkioEntry] | None
    sectors_recursive: list[BlkioEntry] | None


class PidsStats(TypedDict, total=False):
    current: int
    limit: int
    """Absent: unlimited is printed as 18446744073709551615 by Docker, and so here."""


class Stats(TypedDict):
    """The cgroup's part of Docker's `/containers/{id}/stats`, ready to be put into it."""

    cpu_stats: CpuStats
    memory_stats: MemoryStats
    blkio_stats: BlkioStats
    pids_stats: PidsStats


class OomWatch(Protocol):
    """A descriptor that becomes readable when the kernel killed, or could kill, for want of memory."""

    def fileno(self) -> int: ...

    def read(self) -> int:
        """OOM kills since the last call; 0 for a false alarm (the cgroup was removed, another event). Never blocks."""
        ...

    def close(self) -> None: ...


class Entrance(NamedTuple):
    """Open descriptors by which the next clone gets into a cgroup. A context manager that closes them."""

    directory: int | None = None
    """v2: for clone3(CLONE_INTO_CGROUP), it is born there."""
    tasks: tuple[int, ...] = ()
    """v1: the clone calls `enter` before it does anything else."""

    def enter(self) -> None:
        """Move the calling process, which must have a single thread, in. Raises OSError.

        For a thread that moves itself the kernel takes no lock that keeps others from forking, and so waits for no RCU grace period
        (`cgroup_procs_write_start`).
        """
        for descriptor in self.tasks:
            os.write(descriptor, b"0")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for descriptor in self.tasks if self.directory is None else (self.directory, *self.tasks):
            os.close(descriptor)


class Cgroup(Protocol):
    """One cgroup, by its path. A name until `create`; all methods raise CgroupError."""

    path: str
    """Absolute path beneath the hierarchies' roots: `/docker/<id>`."""

    @property
    def paths(self) -> Mapping[str, str]:
        """Directories by controller (`{"memory": "/sys/fs/cgroup/memory/docker/…"}`); v2: one entry, key ""."""
        ...

    def create(self) -> None:
        """Make it and its missing ancestors. What exists already is fine."""
        ...

    def exists(self) -> bool: ...

    def entrance(self) -> Entrance:
        """The way in for a process that is about to be cloned. It must exist."""
        ...

    def attach(self, pid: int) -> None:
        """Move process `pid` (0: the caller) into it, in all hierarchies."""
        ...

    def attach_beneath(self, pid: int, places: Mapping[str, str]) -> None:
        """Move process `pid` into cgroups that exist beneath it: controller → relative path, "" for all controllers.

        The controllers that are not named get this cgroup. Raises CgroupError in runc's words for a path that leads out.
        """
        ...

    def rename(self, path: str) -> None:
        """Give it another name beneath the same parent, processes and settings kept. v1 only, else NotSupported."""
        ...

    def apply(self, resources: Resources) -> None:
        """Set limits and the device list from the OCI runtime spec. Absent keys keep the kernel's defaults.

        Raises CgroupError when a limit that was asked for cannot be set: a missing controller is an error exactly
        when the limit is not the "unset" one.
        """
        ...

    def update(self, resources: Resources) -> None:
        """Change limits of a running container; as `apply`, but devices are left alone when absent."""
        ...

    def freeze(self) -> None:
        """Stop all its processes; returns when they are stopped."""
        ...

    def thaw(self) -> None: ...

    def frozen(self) -> bool: ...

    def processes(self, *, recursive: bool = True) -> list[int]:
        """Pids (in the caller's pid namespace) in it, by default with all descendants'. A missing cgroup has none."""
        ...

    def kill(self, signal: int = 9) -> None:
        """Send `signal` to every process in it and beneath; for SIGKILL also to those forked meanwhile."""
        ...

    def delete(self, *, timeout: float = 5.0) -> None:
        """Remove it with its descendants, waiting at most `timeout` seconds for killed processes to be reaped."""
        ...

    def stats(self) -> Stats:
        """Present usage, in Docker's JSON form."""
        ...

    def watch_oom(self) -> OomWatch: ...

    def oom_kills(self) -> int:
        """How many of its processes the kernel's OOM killer has killed so far."""
        ...

    def pressure(self) -> dict[str, str]:
        """PSI files by resource (`cpu`, `io`, `memory`), where the kernel has them (v2)."""
        ...
