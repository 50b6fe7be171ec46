"""Removing directory trees, however deep: containers make trees that no path can name and no recursion can walk."""

from __future__ import annotations

import os
import secrets
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LEVELS = 64
"""How deep a walk goes before it moves what is below to the top: it holds this many descriptors at most."""


def remove_tree(directory: int, name: str) -> None:
    """Remove whatever `name` is in an open directory, following no link. What is far below is moved up within it first.

    Raises OSError for what cannot be removed; the rest stays then.
    """
    if not stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
        os.unlink(name, dir_fd=directory)
        return
    top = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        while children := os.listdir(top):  # again for what was moved here meanwhile
            for child in children:
                _remove(top, child, 1, top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=directory)


def remove_path(path: str | os.PathLike[str]) -> None:
    """The same for a path. What is not there, or cannot be removed, is left for another time."""
    parent, name = os.path.split(os.fspath(path))
    try:
        directory = os.open(parent or ".", _DIRECTORY)
    except OSError:
        return
    try:
        remove_tree(directory, name)
    except OSError:
        pass
    finally:
        os.close(directory)


def _remove(directory: int, name: str, level: int, top: int) -> None:
    if not stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
        os.unlink(name, dir_fd=directory)
        return
    if level == _LEVELS:
        os.rename(name, f".deep-{secrets.token_hex(8)}", src_dir_fd=directory, dst_dir_fd=top)
        return
    inner = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        for child in os.listdir(inner):
            _remove(inner, child, level + 1, top)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=directory)
