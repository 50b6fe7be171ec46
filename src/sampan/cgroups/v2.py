"""A container's cgroup on v2: one directory in the unified hierarchy.

Kernel documentation: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
import select
import time
from typing import TYPE_CHECKING

from sampan.cgroups import ebpf, resources_v2, stats_v2
from sampan.cgroups.devices import fold
from sampan.cgroups.files import read_optional, read_table, write
from sampan.cgroups.interface import CgroupError, Entrance
from sampan.cgroups.oom import OomInotify
from sampan.cgroups.tree import beneath, member_pids, remove_trees, signal_members
from sampan.errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.cgroups.interface import OomWatch, Stats
    from sampan.oci.runtime import Resources

_FREEZE_TIMEOUT = 2.0


class CgroupV2:
    """See `sampan.cgroups.interface.Cgroup`."""

    __slots__ = ("_directory", "_root", "path")

    def __init__(self, root: str, path: str) -> None:
        self.path = path
        self._root = root
        self._directory = root + path

    @property
    def paths(self) -> Mapping[str, str]:
        return {"": self._directory}

    def create(self) -> None:
        """Make it; ancestors are made to hand all their controllers down, for without that it would have no limits."""
        parent = self._root
        names = self.path.strip("/").split("/")
        for name in names:
            _delegate(parent)
            parent = f"{parent}/{name}"
            try:
                os.mkdir(parent)
            except FileExistsError:
                pass
            except OSError as error:
                raise CgroupError(f"mkdir {parent}: {error.strerror}", error.errno) from error

    def exists(self) -> bool:
        return os.path.isdir(self._directory)

    def entrance(self) -> Entrance:
        try:
            return Entrance(os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise CgroupError(f"open {self._directory}: {error.strerror}", error.errno) from error

    def attach(self, pid: int) -> None:
        write(self._directory + "/cgroup.procs", pid)

    def attach_beneath(self, pid: int, places: Mapping[str, str]) -> None:
        (directory,) = beneath(self.paths, places).values()
        write(directory + "/cgroup.procs", pid)

    def rename(self, path: str) -> None:
        raise NotSupported("cgroup v2 cannot rename a cgroup: its processes are born there")

    def apply(self, resources: Resources) -> None:
        resources_v2.apply(self._directory, resources)
        ebpf.attach_device_filter(self._directory, fold(resources.get("devices") or []))

    def update(self, resources: Resources) -> None:
        resources_v2.apply(self._directory, resources)
        if resources.get("devices"):
            ebpf.attach_device_filter(self._directory, fold(resources["devices"]))

    def freeze(self) -> None:
        write(self._directory + "/cgroup.freeze", "1")
        if not self._wait_for_event("frozen", _FREEZE_TIMEOUT):
            self.thaw()
            raise CgroupError(
                f"unable to freeze: {self._directory} has running processes after {_FREEZE_TIMEOUT:g} s"
            )

    def thaw(self) -> None:
        write(self._directory + "/cgroup.freeze", "0")

    def frozen(self) -> bool:
        return read_optional(self._directory + "/cgroup.freeze") == "1"

    def processes(self, *, recursive: bool = True) -> list[int]:
        return member_pids(self._directory, recursive=recursive)

    def kill(self, signal: int = 9) -> None:
        if signal == 9:
            try:
                write(self._directory + "/cgroup.kill", "1")  # atomic, reaches frozen processes too
                return
            except CgroupError as error:
                if not self.exists():
                    return
                if error.errno != errno.ENOENT:  # Linux before 5.14
                    raise
        signal_members([self._directory], signal)
        if signal == 9 and self.frozen():
            self.thaw()

    def delete(self, *, timeout: float = 5.0) -> None:
        remove_trees([self._directory], timeout)

    def stats(self) -> Stats:
        return stats_v2.read_stats(self._directory)

    def watch_oom(self) -> OomWatch:
        return OomInotify(self._directory)

    def oom_kills(self) -> int:
        return read_table(self._directory + "/memory.events").get("oom_kill", 0)

    def pressure(self) -> dict[str, str]:
        texts = {
            name: read_optional(f"{self._directory}/{name}.pressure") for name in ("cpu", "io", "memory")
        }
        return {name: text for name, text in texts.items() if text}

    def _wait_for_event(self, key: str, timeout: float) -> bool:
        """Wait until cgroup.events says `key 1`; the kernel wakes pollers of that file at every change."""
        deadline = time.monotonic() + timeout
        fd = os.open(self._directory + "/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poller = select.poll()
            poller.register(fd, select.POLLPRI)
            while f"{key} 1".encode() not in os.pread(fd, 4096, 0).splitlines():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                poller.poll(left * 1000)
        finally:
            os.close(fd)
        return True


def _delegate(directory: str) -> None:
    """Enable for the children of `directory` every controller that it has.

    All in one write when that works; else one by one, for a controller that cannot be enabled here (cpu while
    real-time processes exist, a threaded parent) must not cost the others.
    """
    available = set((read_optional(directory + "/cgroup.controllers") or "").split())
    enabled = set((read_optional(directory + "/cgroup.subtree_control") or "").split())
    missing = sorted(available - enabled)
    if not missing:
        return
    file = directory + "/cgroup.subtree_control"
    try:
        write(file, " ".join("+" + controller for controller in missing))
    except CgroupError:
        for controller in missing:
            try:
                write(file, "+" + controller)
            except CgroupError:
                continue  # a limit that needs it will fail with the name of its file
