"""What /proc says about a contestant's processes: who they are, memory, CPU."""

from __future__ import annotations

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def children_of() -> dict[int, list[int]]:
    """Every process's children, by pid."""
    table: dict[int, list[int]] = {}
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue  # it has just ended
        table.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(pid)
    return table


def descendants(pid: int) -> list[int]:
    table = children_of()
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in table.get(parent, [])]
        found += level
    return found


def ancestors(pid: int) -> list[int]:
    """The parent, its parent and so on, up to pid 1."""
    parent = {child: above for above, children in children_of().items() for child in children}
    found: list[int] = []
    while pid := parent.get(pid, 0):
        found.append(pid)
    return found


def command(pid: int) -> list[str]:
    """Arguments of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def name(pid: int) -> str:
    """What the process calls itself; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def mentioning(text: str) -> list[int]:
    """Processes with `text` in an argument."""
    pids = map(int, filter(str.isdecimal, os.listdir("/proc")))
    return [pid for pid in pids if pid != os.getpid() and any(text in word for word in command(pid))]


def pss(pid: int) -> float:
    """Memory in MB, shared pages divided among those who share them; 0 when the process is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def tree_cpu_seconds(pid: int) -> float:
    """The same of a process and all below it, those that have ended and were waited for included."""
    return sum(_with_ended_children(each) for each in (pid, *descendants(pid)))


def _with_ended_children(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICK
