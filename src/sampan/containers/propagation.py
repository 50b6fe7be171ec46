"""Whether a mount of the host can propagate into a container as the user asks."""

from __future__ import annotations

import os
from typing import NamedTuple

from sampan.errors import InvalidParameter

_MOUNTINFO = "/proc/self/mountinfo"


class _Mounted(NamedTuple):
    point: str
    optional: tuple[str, ...]
    """`shared:7`, `master:3`… of mountinfo, proc_pid_mountinfo(5)."""


def check_propagation(source: str, wanted: str) -> None:
    """Raises `InvalidParameter` when `source` lies on a mount that sends (shared) or gets (slave) no events."""
    kind = wanted.removeprefix("r")
    if kind not in ("shared", "slave"):
        return
    mounted = _mount_of(os.path.realpath(source))
    has = {field.partition(":")[0] for field in mounted.optional}
    if kind == "shared" and "shared" not in has:
        raise InvalidParameter(f"path {source} is mounted on {mounted.point} but it is not a shared mount")
    if kind == "slave" and not has & {"shared", "master"}:
        raise InvalidParameter(
            f"path {source} is mounted on {mounted.point} but it is not a shared or slave mount"
        )


def _mount_of(path: str) -> _Mounted:
    """The mount that a path lies on; of several on one place the last."""
    best = _Mounted("/", ())
    with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            point = _unescaped(fields[4])
            within = path == point or path.startswith(point.rstrip("/") + "/")
            if within and len(point) >= len(best.point):
                best = _Mounted(point, tuple(fields[6 : fields.index("-")]))
    return best


def _unescaped(text: str) -> str:
    for octal, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(octal, character)
    return text
