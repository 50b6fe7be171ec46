"""How much room a directory tree takes."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from sampan.snapshots.interface import Usage

if TYPE_CHECKING:
    from pathlib import Path


def measure(tree: Path) -> Usage:
    """Allocated bytes and inodes below and including `tree`; a file with several names counts once.

    Works on a tree that changes meanwhile: what vanishes is not counted. Stays on the tree's file system.
    """
    root = os.lstat(tree)
    size, inodes = root.st_blocks * 512, 1
    linked: set[int] = set()
    pending = [os.fspath(tree)]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            continue  # too far below to have a path
        with entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
                        raise
                    continue
                if status.st_dev != root.st_dev:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    pending.append(entry.path)
                elif status.st_nlink > 1:
                    if status.st_ino in linked:
                        continue
                    linked.add(status.st_ino)
                size += status.st_blocks * 512
                inodes += 1
    return Usage(size, inodes)
