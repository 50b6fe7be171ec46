"""One file of a tree, read as a whole or in part: what a tree holds may be anything, and somebody else's work."""

from __future__ import annotations

import os
import stat

from sampan.errors import InvalidParameter, NotFound
from sampan.linux.path import open_in_root, reopen


def read_file(root: int, path: str, largest: int, offset: int = 0, length: int = 0) -> bytes:
    """A regular file's content beneath a (borrowed) descriptor, which no link leads out of, or a part of it. Blocks.

    Raises `NotFound`, `InvalidParameter` for what is no file, or has more than `largest` bytes.
    """
    fd = open_part(root, path)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidParameter(f"read {path}: not a regular file")
        with open(reopen(fd, os.O_RDONLY), "rb") as file:
            file.seek(max(0, offset))
            data = file.read(min(length, largest) if length > 0 else largest + 1)
    finally:
        os.close(fd)
    if len(data) > largest:
        raise InvalidParameter(f"read {path}: larger than {largest >> 20} MiB")
    return data


def open_part(root: int, path: str, flags: int = os.O_PATH) -> int:
    """What a path names beneath a root. Blocks. Raises `NotFound`."""
    try:
        return open_in_root(root, path.lstrip("/") or "/", flags)
    except OSError as error:
        raise NotFound(f"open {path}: {(error.strerror or '').lower()}") from None
