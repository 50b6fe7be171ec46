"""Notice of the kernel's OOM killer, as a descriptor for a shim's event loop.

The notice may come a moment before the kill is counted (v1 tells before it kills). So `read` may say 0 for an event
whose kill follows; whoever records a container's exit asks `Cgroup.oom_kills` then, which is exact.
"""

from __future__ import annotations

import os

from sampan.cgroups.files import read_table, write
from sampan.cgroups.interface import CgroupError
from sampan.linux import inotify


class OomEventfd:
    """v1: an eventfd registered for `memory.oom_control`."""

    __slots__ = ("_control", "_eventfd", "_seen")

    def __init__(self, memory_directory: str) -> None:
        self._control = memory_directory + "/memory.oom_control"
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(self._control, os.O_RDONLY | os.O_CLOEXEC)
            try:
                write(memory_directory + "/cgroup.event_control", f"{self._eventfd} {control}")
            finally:
                os.close(control)
        except OSError as error:
            os.close(self._eventfd)
            raise CgroupError(f"open {self._control}: {error.strerror}", error.errno) from error
        except CgroupError:
            os.close(self._eventfd)
            raise
        self._seen = _count(self._control)

    def fileno(self) -> int:
        return self._eventfd

    def read(self) -> int:
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return 0
        now = _count(self._control)
        kills, self._seen = max(now - self._seen, 0), max(now, self._seen)
        return kills

    def close(self) -> None:
        os.close(self._eventfd)


class OomInotify:
    """v2: inotify on `memory.events`."""

    __slots__ = ("_events", "_queue", "_seen")

    def __init__(self, directory: str) -> None:
        self._events = directory + "/memory.events"
        self._queue = inotify.open_queue()
        try:
            inotify.add_watch(self._queue, self._events, inotify.IN_MODIFY)
        except OSError as error:
            os.close(self._queue)
            raise CgroupError(f"watch {self._events}: {error.strerror}", error.errno) from error
        self._seen = _count(self._events)

    def fileno(self) -> int:
        return self._queue

    def read(self) -> int:
        inotify.read_events(self._queue)
        now = _count(self._events)
        kills, self._seen = max(now - self._seen, 0), max(now, self._seen)
        return kills

    def close(self) -> None:
        os.close(self._queue)


def _count(path: str) -> int:
    """Both files have a line `oom_kill N`; 0 once the cgroup is gone."""
    return read_table(path).get("oom_kill", 0)
