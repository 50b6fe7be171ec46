"""Jobs over whole directory trees, for worker processes: removal and measuring."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

from sampan.linux.trees import remove_path

Report = Callable[[dict[str, Any]], None]


def remove_job(args: dict[str, Any], _fds: list[int], _report: Report) -> None:
    """Remove the directories `paths`, whatever is in them."""
    for path in args["paths"]:
        remove_path(path)


def sizes_job(args: dict[str, Any], _fds: list[int], _report: Report) -> list[int]:
    """Bytes of the files beneath each of `paths`, a hard-linked one once; -1 where that cannot be found out."""
    return [_size(path) for path in args["paths"]]


def _size(root: str) -> int:
    total = 0
    linked: set[tuple[int, int]] = set()
    try:
        os.lstat(root)
        for entry in _files(root):
            try:
                status = entry.stat(follow_symlinks=False)
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


def _files(root: str) -> Iterator[os.DirEntry[str]]:
    """Everything but directories; what is too far below to have a path counts nothing."""
    pending = [root]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        yield entry
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                raise
