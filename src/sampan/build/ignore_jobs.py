"""Leaving out of a context what `.dockerignore` says. Runs in a worker."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from sampan.dockerfile.ignore import Ignore
from sampan.linux.trees import remove_tree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def forget_job(args: dict[str, Any], _fds: list[int], _report: Callable[[dict[str, Any]], None]) -> None:
    """Remove what `patterns` exclude below `directory`, which is ours alone."""
    ignore = Ignore(args["patterns"])
    top = os.open(args["directory"], _DIRECTORY)
    _forget(top, "", ignore)
    os.close(top)


def _forget(directory: int, prefix: str, ignore: Ignore) -> None:
    for name in os.listdir(directory):
        path = prefix + name
        is_directory = stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode)
        excluded = ignore.excludes(path)
        if excluded and (not is_directory or ignore.skips(path)):
            remove_tree(directory, name)
        elif is_directory:
            inner = os.open(name, _DIRECTORY, dir_fd=directory)
            _forget(inner, path + "/", ignore)
            empty = excluded and not os.listdir(inner)
            os.close(inner)
            if empty:
                os.rmdir(name, dir_fd=directory)
