"""A container's cgroup on v1: one directory in each mounted hierarchy, all with the same path.

Kernel documentation: Documentation/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from sampan.cgroups import resources_v1, stats_v1
from sampan.cgroups.files import read, read_optional, read_table, write
from sampan.cgroups.interface import CgroupError, Entrance
from sampan.cgroups.oom import OomEventfd
from sampan.cgroups.tree import beneath, member_pids, remove_trees, signal_members
from sampan.errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.cgroups.interface import OomWatch, Stats
    from sampan.oci.runtime import Resources

_FREEZE_TIMEOUT = 2.0
_ATTACH_ATTEMPTS = 5


class CgroupV1:
    """See `sampan.cgroups.interface.Cgroup`."""

    __slots__ = ("_directories", "_paths", "path")

    def __init__(self, roots: Mapping[str, str], path: str) -> None:
        self.path = path
        self._paths = {controller: root + path for controller, root in roots.items()}
        self._directories = list(dict.fromkeys(self._paths.values()))

    @property
    def paths(self) -> Mapping[str, str]:
        return self._paths

    def create(self) -> None:
        cpuset = self._paths.get("cpuset")
        depth = self.path.count("/")
        for directory in self._directories:
            if directory == cpuset:
                _make_cpuset(directory, depth)
                continue
            try:
                os.mkdir(directory)
            except FileExistsError:
                continue
            except FileNotFoundError:
                os.makedirs(directory, exist_ok=True)
            except OSError as error:
                raise CgroupError(f"mkdir {directory}: {error.strerror}", error.errno) from error

    def exists(self) -> bool:
        return any(os.path.isdir(directory) for directory in self._directories)

    def entrance(self) -> Entrance:
        opened: list[int] = []
        try:
            for directory in self._directories:
                opened.append(_open_tasks(directory))
        except BaseException:
            Entrance(None, tuple(opened)).__exit__()
            raise
        return Entrance(None, tuple(opened))

    def attach(self, pid: int) -> None:
        for directory in self._directories:
            _attach(directory + "/cgroup.procs", pid)

    def attach_beneath(self, pid: int, places: Mapping[str, str]) -> None:
        for directory in dict.fromkeys(beneath(self._paths, places).values()):
            _attach(directory + "/cgroup.procs", pid)

    def rename(self, path: str) -> None:
        if os.path.dirname(path) != os.path.dirname(self.path):
            raise NotSupported(f"a cgroup can be renamed beneath its parent only: {self.path} to {path}")
        renamed: list[tuple[str, str]] = []
        cut = len(self.path)
        try:
            for directory in self._directories:
                target = directory[:-cut] + path
                os.rename(directory, target)
                renamed.append((directory, target))
        except OSError as error:
            for directory, target in reversed(renamed):
                os.rename(target, directory)
            raise CgroupError(f"rename {directory} to {target}: {error.strerror}", error.errno) from error
        self._paths = {controller: old[:-cut] + path for controller, old in self._paths.items()}
        self._directories = [target for _, target in renamed]
        self.path = path

    def apply(self, resources: Resources) -> None:
        resources_v1.apply(self._paths, resources)
        resources_v1.apply_devices(self._paths, resources.get("devices") or [])

    def update(self, resources: Resources) -> None:
        resources_v1.apply(self._paths, resources)
        if resources.get("devices"):
            resources_v1.apply_devices(self._paths, resources["devices"])

    def freeze(self) -> None:
        state = self._controller("freezer") + "/freezer.state"
        deadline = time.monotonic() + _FREEZE_TIMEOUT
        delay = 0.0001
        while True:
            # A process that forks while the cgroup freezes can keep it in FREEZING for ever: writing again catches it.
            write(state, "FROZEN")
            if read(state) == "FROZEN":
                return
            if time.monotonic() > deadline:
                write(state, "THAWED")
                raise CgroupError(f"unable to freeze: {state} stays FREEZING for {_FREEZE_TIMEOUT:g} s")
            time.sleep(delay)
            delay = min(delay * 2, 0.02)

    def thaw(self) -> None:
        write(self._controller("freezer") + "/freezer.state", "THAWED")

    def frozen(self) -> bool:
        path = self._paths.get("freezer")
        return path is not None and read_optional(path + "/freezer.state") in ("FROZEN", "FREEZING")

    def processes(self, *, recursive: bool = True) -> list[int]:
        return member_pids(self._paths.get("freezer") or self._directories[0], recursive=recursive)

    def kill(self, signal: int = 9) -> None:
        # A privileged container can move its processes within one hierarchy; no one moves them out of all.
        signal_members(self._directories, signal)
        if self.frozen():  # a frozen process dies when it is thawed
            self.thaw()

    def delete(self, *, timeout: float = 5.0) -> None:
        remove_trees(self._directories, timeout)

    def stats(self) -> Stats:
        return stats_v1.read_stats(self._paths)

    def watch_oom(self) -> OomWatch:
        return OomEventfd(self._controller("memory"))

    def oom_kills(self) -> int:
        return read_table(self._controller("memory") + "/memory.oom_control").get("oom_kill", 0)

    def pressure(self) -> dict[str, str]:
        return {}

    def _controller(self, name: str) -> str:
        try:
            return self._paths[name]
        except KeyError:
            raise CgroupError(f"cgroup controller {name} is not mounted") from None


def _open_tasks(directory: str) -> int:
    try:
        return os.open(directory + "/tasks", os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CgroupError(f"open {directory}/tasks: {error.strerror}", error.errno) from error


def _attach(procs: str, pid: int) -> None:
    """Write a pid; EINVAL means a task that is being born, which passes (Linux before 5.2)."""
    for attempt in range(_ATTACH_ATTEMPTS):
        try:
            write(procs, pid)
        except CgroupError as error:
            if error.errno != errno.EINVAL or attempt == _ATTACH_ATTEMPTS - 1:
                raise
            time.sleep(0.03)
        else:
            return


def _make_cpuset(directory: str, depth: int) -> None:
    """A new cpuset is empty and takes no process until it has CPUs and memory nodes: copy the parent's."""
    try:
        os.mkdir(directory)
    except FileExistsError:
        pass  # perhaps by someone who died before filling it
    except FileNotFoundError:
        if depth <= 1:
            raise CgroupError(f"mkdir {directory}: the cpuset hierarchy is gone", errno.ENOENT) from None
        _make_cpuset(os.path.dirname(directory), depth - 1)
        _make_cpuset(directory, depth)
        return
    except OSError as error:
        raise CgroupError(f"mkdir {directory}: {error.strerror}", error.errno) from error
    parent = os.path.dirname(directory)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read(f"{directory}/{name}"):
            write(f"{directory}/{name}", read(f"{parent}/{name}"))
