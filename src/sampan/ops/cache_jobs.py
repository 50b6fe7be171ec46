"""How a cache mount's directory begins. Runs in a worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from sampan.archive.copytree import copy_tree
from sampan.linux import path as paths
from sampan.linux.trees import remove_path
from sampan.ops.choosing import open_source


def begin_job(args: dict[str, Any], _fds: list[int], _report: Callable[[dict[str, Any]], None]) -> None:
    """Make `data` in `place`: empty, or a copy of what `selector` names in `source`. It appears when it is complete."""
    os.umask(0)
    begun = os.path.join(args["place"], "begun")
    remove_path(begun)
    os.mkdir(begun, 0o755)
    if not args["source"].get("empty"):
        root = open_source(args["source"])
        part = paths.open_in_root(root, args["selector"] or "/", os.O_RDONLY | os.O_DIRECTORY)
        copy_tree(f"/proc/self/fd/{part}/.", begun)
    os.rename(begun, os.path.join(args["place"], "data"))
