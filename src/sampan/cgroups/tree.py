"""What is the same on v1 and v2: a cgroup is a directory tree whose cgroup.procs files name processes."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from sampan.cgroups.files import read_optional
from sampan.cgroups.interface import CgroupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_KILL_ROUNDS = 100
"""A fork bomb loses: each round kills every process that existed when it began."""


def member_pids(directory: str, *, recursive: bool = True) -> list[int]:
    """Processes in a cgroup, parents before children; a missing cgroup has none. Pids of another namespace are left out."""
    pids: list[int] = []
    for path in walk(directory) if recursive else (directory,):
        text = read_optional(path + "/cgroup.procs")
        if text:
            pids.extend(pid for pid in map(int, text.split()) if pid)
    return pids


def beneath(paths: Mapping[str, str], places: Mapping[str, str]) -> dict[str, str]:
    """Directories by controller: `paths`, with the relative paths of `places` (of all controllers: "") appended.

    Raises CgroupError for an unknown controller, and for a path that leads out.
    """
    found = dict(paths)
    for controller, place in places.items():
        if controller and controller not in found:
            raise CgroupError(f"unknown controller {controller} in SubCgroupPaths")
        for name in [controller] if controller else list(found):
            found[name] = os.path.normpath(f"{paths[name]}/{place}")
            if not f"{found[name]}/".startswith(paths[name] + "/"):
                raise CgroupError(f"{place} is not a sub cgroup path")
    return found


def walk(directory: str) -> Iterable[str]:
    """A cgroup and all its descendants, parents first. What vanishes meanwhile is passed over."""
    pending = [directory]
    while pending:
        path = pending.pop()
        try:
            with os.scandir(path) as entries:
                children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno == errno.ENODEV:  # removed between opening and reading
                continue
            raise CgroupError(f"read directory {path}: {error.strerror}", error.errno) from error
        yield path
        pending.extend(sorted(children, reverse=True))


def signal_members(directories: Iterable[str], signal: int) -> None:
    """Send `signal` once to every process; SIGKILL in rounds, until no process has been seen that was not sent it.

    Raises CgroupError when new processes keep appearing, which only a cgroup of a stranger's can do.
    """
    signalled: set[int] = set()
    directories = list(directories)
    for _ in range(_KILL_ROUNDS if signal == 9 else 1):
        new = {pid for directory in directories for pid in member_pids(directory)} - signalled
        if not new:
            return
        for pid in new:
            try:
                os.kill(pid, signal)
            except ProcessLookupError:
                pass
        signalled |= new
    if signal == 9:
        raise CgroupError(f"processes keep appearing in {directories[0]}")


def remove_trees(directories: Iterable[str], timeout: float) -> None:
    """Remove cgroups with their descendants. Waits for killed processes to leave, `timeout` seconds altogether.

    Raises CgroupError naming the directory and its processes when it is still in use then.
    """
    deadline = time.monotonic() + timeout
    for directory in directories:
        delay = 0.0002
        while (busy := _remove_tree(directory)) is not None:
            if time.monotonic() >= deadline:
                raise CgroupError(f"rmdir {busy}: in use by processes {member_pids(busy)}", errno.EBUSY)
            time.sleep(delay)
            delay = min(delay * 2, 0.05)


def _remove_tree(directory: str) -> str | None:
    """Remove what can be removed; the directory that is still in use, if any."""
    try:
        os.rmdir(directory)  # the usual case: no descendants
        return None
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise CgroupError(f"rmdir {directory}: {error.strerror}", error.errno) from error
    for path in reversed(list(walk(directory))):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise CgroupError(f"rmdir {path}: {error.strerror}", error.errno) from error
            return path
    return None
