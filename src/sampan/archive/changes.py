"""`docker diff`: the changed paths of a container, each added, changed or removed."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from sampan.archive.apply import OPAQUE_ATTRIBUTE
from sampan.archive.diff import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHANGED, ADDED, REMOVED = 0, 1, 2
"""Docker's numbers for the kinds of change."""

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def changes_job(
    args: dict[str, Any], fds: Sequence[int], report: Callable[[dict[str, Any]], None] | None = None
) -> list[dict[str, Any]]:
    """`[{"Path": "/etc/motd", "Kind": 0}, …]`, sorted; `args` is `ApplyTarget.job_args()`."""
    below = [
        os.open(path, _OPEN_DIRECTORY) for path in args["parents"] or filter(None, [args.get("compare")])
    ]
    try:
        found = []
        for change in differences(args):
            kind = REMOVED
            if change.status is not None:
                kind = CHANGED if exists_below(below, change.path) else ADDED
            found.append({"Path": f"/{change.path}", "Kind": kind})
    finally:
        for fd in below:
            os.close(fd)
    return sorted(found, key=lambda change: os.fsencode(str(change["Path"])))


def exists_below(layers: list[int], path: str) -> bool:
    """Whether the layers, nearest first, show anything at `path` when merged."""
    for layer in layers:
        verdict = _exists_in(layer, path.split("/"))
        if verdict is not None:
            return verdict
    return False


def _exists_in(layer: int, parts: list[str]) -> bool | None:
    """True: it is there; False: this layer hides it; None: ask the next."""
    directory = os.open(".", _OPEN_DIRECTORY, dir_fd=layer)
    hides = False
    try:
        for index, part in enumerate(parts):
            try:
                status = os.lstat(part, dir_fd=directory)
            except FileNotFoundError:
                return False if hides else None
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                return False
            if index == len(parts) - 1:
                return True
            if not stat.S_ISDIR(status.st_mode):
                return False
            inner = os.open(part, _OPEN_DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = inner
            hides = hides or _is_opaque(directory)
    finally:
        os.close(directory)
    return None


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, OPAQUE_ATTRIBUTE) == b"y"
    except OSError:
        return False
