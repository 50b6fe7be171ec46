"""Figures of the whole machine that Docker prints beside a container's."""

from __future__ import annotations

import os

_NANOSECONDS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def ticks_to_ns(ticks: int) -> int:
    """USER_HZ ticks (proc(5), cpuacct.stat) as nanoseconds."""
    return ticks * _NANOSECONDS_PER_TICK


def system_cpu_ns() -> int:
    """Nanoseconds of all CPUs since boot in all states: the sum of the first seven fields of /proc/stat's `cpu`.

    guest times are part of user time already, and steal is left out of the seven, as Docker counts.
    """
    with open("/proc/stat", encoding="ascii") as file:
        fields = file.readline().split()
    return ticks_to_ns(sum(map(int, fields[1:8])))


def online_cpus() -> int:
    """CPUs that are online."""
    return os.sysconf("SC_NPROCESSORS_ONLN")


def total_memory() -> int:
    """Bytes of memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
