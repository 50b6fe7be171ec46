"""Jobs over whole directory trees, for worker processes: removal and measuring."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

Report = Callable[[dict[str, Any]], None]


def remove_job(args: dict[str, Any], _fds: list[int], _report: Report) -> None:
    """Remove the directories `paths`, whatever is in them. shutil.rmtree follows no link (it works by descriptors)."""
    for path in args["paths"]:
        shutil.rmtree(path, ignore_errors=True)


def sizes_job(args: dict[str, Any], _fds: list[int], _report: Report) -> list[int]:
    """Bytes of the files beneath each of `paths`, a hard-linked one once; -1 where that cannot be found out."""
    return [_size(path) for path in args["paths"]]


def _size(root: str) -> int:
    total = 0
    linked: set[tuple[int, int]] = set()
    try:
        for _, _, files, directory in os.fwalk(root):
            for name in files:
                try:
                    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                except FileNotFoundError:
                    continue  # a container removed it meanwhile
                if status.st_nlink > 1:
                    if (status.st_dev, status.st_ino) in linked:
                        continue
                    linked.add((status.st_dev, status.st_ino))
                total += status.st_size
    except OSError:
        return -1
    return total
