"""The digests of a tree's files, which a statement about them names. Runs in a worker."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from typing import Any

from sampan.errors import InvalidParameter
from sampan.linux.path import open_without_links

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MOST = 500_000
"""Files of one statement: it is a document, which somebody has to read."""


def subjects_job(
    _args: dict[str, Any], fds: Sequence[int], _report: Callable[[dict[str, Any]], None] | None = None
) -> list[tuple[str, str]]:
    """Path and digest of every regular file beneath fds[0], in the order of a walk. Bytes that are no text are replaced in paths.

    Raises `InvalidParameter` for more files than a statement may have.
    """
    found: list[tuple[str, str]] = []
    waiting = [("", True)]
    while waiting:
        path, is_directory = waiting.pop()
        if is_directory:
            waiting += reversed(_entries(fds[0], path))
            continue
        found.append((os.fsencode(path).decode(errors="replace"), _digest(fds[0], path)))
        if len(found) > MOST:
            raise InvalidParameter(f"a statement about more than {MOST} files")
    return found


def _entries(root: int, path: str) -> list[tuple[str, bool]]:
    """Directories and regular files in one, in the order of their names' bytes, and which of them are directories."""
    directory = open_without_links(root, path, _DIRECTORY)
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                kind = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(kind) or stat.S_ISREG(kind):
                    found.append((f"{path}/{entry.name}" if path else entry.name, stat.S_ISDIR(kind)))
    finally:
        os.close(directory)
    return sorted(found, key=lambda each: os.fsencode(each[0]))


def _digest(root: int, path: str) -> str:
    with open(open_without_links(root, path, _FILE), "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
