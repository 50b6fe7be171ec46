"""Limits and scheduling of a process, written by the parent, which has the privileges, when set-up is done."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import TYPE_CHECKING

from sampan.linux.libc import MACHINE, checked, libc
from sampan.runtime.container.failure import Step
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import IOPriority, Process, Rlimit, Scheduler

_NUMBERS = {
    "x86_64": {"ioprio_set": 251, "sched_setattr": 314},
    "aarch64": {"ioprio_set": 30, "sched_setattr": 274},
    "riscv64": {"ioprio_set": 30, "sched_setattr": 274},
    "ppc64le": {"ioprio_set": 273, "sched_setattr": 355},
    "s390x": {"ioprio_set": 282, "sched_setattr": 345},
}
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}  # fmt: skip
_SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01, "SCHED_FLAG_RECLAIM": 0x02, "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08, "SCHED_FLAG_KEEP_PARAMS": 0x10, "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}  # fmt: skip
_RLIMIT_LOCKS = 10
"""The kernel takes it and ignores it; Python has no name for it."""
_INFINITY = (1 << 64) - 1


def apply_before(pid: int, process: Process) -> None:
    """What may be in force while the stub still works: the OOM score. Raises LaunchError."""
    score = process.get("oomScoreAdj")
    if score is None:
        return
    with Step("setting oom_score_adj"):
        path = f"/proc/{pid}/oom_score_adj"
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, str(score).encode())
        except PermissionError:
            # Lowering it needs CAP_SYS_RESOURCE, which an engine inside a container or an ordinary user lacks;
            # what was inherited then stays, unless it would favour the container over its creator's wish.
            with open(path, encoding="ascii") as file:
                if int(file.read()) < score:
                    raise
        finally:
            os.close(descriptor)


def apply_rlimits(pid: int, process: Process) -> None:
    """Resource limits, of the caller (pid 0) or, with CAP_SYS_RESOURCE, another process. Raises LaunchError."""
    for limit in process.get("rlimits", []):
        _set_rlimit(pid, limit)


def apply_after(pid: int, process: Process, *, with_rlimits: bool) -> None:
    """What the parent sets when set-up is done: scheduling, I/O priority, CPUs. Raises LaunchError.

    `with_rlimits`: also the resource limits, which a process in a user namespace cannot raise for itself.
    """
    if with_rlimits:
        apply_rlimits(pid, process)
    affinity = process.get("execCPUAffinity", {})
    if affinity.get("final"):
        set_affinity(pid, affinity["final"])
    if "scheduler" in process:
        with Step("setting the scheduler"):
            _set_scheduler(pid, process["scheduler"])
    if "ioPriority" in process:
        with Step("setting the I/O priority"):
            _set_io_priority(pid, process["ioPriority"])


def set_affinity(pid: int, cpus: str) -> None:
    """Bind to a CPU list such as `0-3,7`. Raises LaunchError."""
    with Step("setting the CPU affinity"):
        os.sched_setaffinity(pid, parse_cpu_list(cpus))


def parse_cpu_list(text: str) -> set[int]:
    """The CPUs of a list in the kernel's format. Raises LaunchError."""
    cpus: set[int] = set()
    try:
        for part in text.replace(" ", "").split(","):
            if part:
                first, _, last = part.partition("-")
                cpus.update(range(int(first), int(last or first) + 1))
    except ValueError:
        raise LaunchError(f'invalid CPU list "{text}"', "other") from None
    return cpus


def _set_rlimit(pid: int, limit: Rlimit) -> None:
    number = _RLIMIT_LOCKS if limit["type"] == "RLIMIT_LOCKS" else getattr(resource, limit["type"], None)
    if number is None:
        raise LaunchError(f"invalid rlimit type {limit['type']}", "other")
    soft, hard = (resource.RLIM_INFINITY if n >= _INFINITY else n for n in (limit["soft"], limit["hard"]))
    try:
        resource.prlimit(pid, number, (soft, hard))
    except (OSError, ValueError) as error:
        text = "operation not permitted" if isinstance(error, PermissionError) else str(error)
        what = f"error setting rlimit type {number}: {text}"
        raise LaunchError(f"error setting rlimits for ready process: {what}", "other") from error


class _SchedAttr(ctypes.Structure):
    """struct sched_attr, first version, 48 bytes. sched_setattr(2)."""

    _fields_ = (
        ("size", ctypes.c_uint32), ("sched_policy", ctypes.c_uint32), ("sched_flags", ctypes.c_uint64),
        ("sched_nice", ctypes.c_int32), ("sched_priority", ctypes.c_uint32),
        ("sched_runtime", ctypes.c_uint64), ("sched_deadline", ctypes.c_uint64),
        ("sched_period", ctypes.c_uint64),
    )  # fmt: skip


def _set_scheduler(pid: int, scheduler: Scheduler) -> None:
    flags = 0
    for name in scheduler.get("flags", []):
        flags |= _SCHED_FLAGS[name]
    attributes = _SchedAttr(
        ctypes.sizeof(_SchedAttr), _POLICIES[scheduler["policy"]], flags, scheduler.get("nice", 0),
        scheduler.get("priority", 0), scheduler.get("runtime", 0), scheduler.get("deadline", 0),
        scheduler.get("period", 0),
    )  # fmt: skip
    number = ctypes.c_long(_NUMBERS[MACHINE]["sched_setattr"])
    checked(libc.syscall(number, ctypes.c_long(pid), ctypes.byref(attributes), ctypes.c_long(0)))


def _set_io_priority(pid: int, priority: IOPriority) -> None:
    value = _IOPRIO_CLASSES[priority["class"]] << 13 | priority.get("priority", 0)
    number = ctypes.c_long(_NUMBERS[MACHINE]["ioprio_set"])
    checked(
        libc.syscall(number, ctypes.c_long(_IOPRIO_WHO_PROCESS), ctypes.c_long(pid), ctypes.c_long(value))
    )
