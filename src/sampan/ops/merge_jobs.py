"""Comparing two trees in a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sampan.archive.diff import diff_job
from sampan.ops.choosing import open_source


def compare_job(
    args: dict[str, Any], fds: list[int], _report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Write what `upper` changed against `lower` to fds[0]; the result is `diff_job`'s."""
    lower, upper = open_source(args["lower"]), open_source(args["upper"])
    # Magic links of our own process: they lead to the roots, wherever those are mounted. The dot makes them directories.
    return diff_job({"target": f"/proc/self/fd/{upper}/.", "compare": f"/proc/self/fd/{lower}/."}, fds)
