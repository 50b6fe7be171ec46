"""Calls on files that Python has no function for."""

from __future__ import annotations

import fcntl

from sampan.linux.libc import checked, libc

FICLONE = 0x40049409


def syncfs(descriptor: int) -> None:
    """Write everything of the file system that the descriptor is on to the disk (syncfs(2)).

    Since Linux 5.8 an earlier failed write-back is reported here, as OSError.
    """
    checked(libc.syncfs(descriptor))


def clone_file(target: int, source: int) -> bool:
    """Make the empty file `target` share the blocks of `source`; False where the file system can't (FICLONE)."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError:
        return False
    return True
