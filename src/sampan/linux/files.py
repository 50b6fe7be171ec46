"""Calls on files that Python has no function for."""

from __future__ import annotations

import ctypes
import fcntl

from sampan.linux.libc import checked, libc

FICLONE = 0x40049409
FALLOC_FL_KEEP_SIZE = 1


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


def allocate_beyond_end(descriptor: int, end: int) -> None:
    """Give a file the blocks of its first `end` bytes, while its size stays what it is (fallocate(2)).

    Raises OSError: ENOSPC, or EOPNOTSUPP where the file system does not have it.
    """
    checked(libc.fallocate(descriptor, FALLOC_FL_KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(end)))
