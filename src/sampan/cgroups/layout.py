"""Which cgroup hierarchies the machine has, and where they are mounted.

Three layouts exist: `v1` (each controller in a hierarchy of its own, or several together), `v2` (one unified hierarchy)
and `hybrid` (v1 for the controllers, with an empty v2 hierarchy beside them, which systemd uses for tracking).
In hybrid mode containers are put into the v1 hierarchies only, as runc does: the unified one controls nothing there,
and each further hierarchy makes every attach dearer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sampan.cgroups.interface import CgroupError
from sampan.cgroups.v1 import CgroupV1
from sampan.cgroups.v2 import CgroupV2

if TYPE_CHECKING:
    from sampan.cgroups.interface import Cgroup

DEFAULT_PARENT = "/docker"
"""Parent of all containers' cgroups unless `--cgroup-parent` says otherwise; Docker's own."""


class Layout:
    """The mounted hierarchies of one mount namespace. Make one with `detect`."""

    __slots__ = ("roots", "unified", "version")

    def __init__(
        self, version: Literal["v1", "hybrid", "v2"], roots: dict[str, str], unified: str | None
    ) -> None:
        self.version = version
        self.roots = roots
        """v1 mount points by controller; named hierarchies have keys like `name=systemd`."""
        self.unified = unified
        """Mount point of the v2 hierarchy."""

    @property
    def can_rename(self) -> bool:
        """Whether a parked cgroup can become a container's by `rename`; v2 never allows it."""
        return self.version != "v2"

    def cgroup(self, path: str) -> Cgroup:
        """The cgroup at an absolute `path` such as `/docker/<id>`; nothing is created."""
        if self.version == "v2":
            assert self.unified is not None
            return CgroupV2(self.unified, path)
        return CgroupV1(self.roots, path)


def detect(mountinfo: str = "/proc/self/mountinfo", controllers: str = "/proc/cgroups") -> Layout:
    """Look at this process's mounts. Raises CgroupError when no cgroup file system is mounted."""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        mounts = file.read()
    try:
        with open(controllers, encoding="ascii") as file:
            known = {line.split()[0] for line in file if not line.startswith("#")}
    except FileNotFoundError:  # a kernel without cgroup v1
        known = set()
    return parse_mountinfo(mounts, known)


def parse_mountinfo(mountinfo: str, controllers: set[str]) -> Layout:
    """Find the hierarchies in the text of /proc/PID/mountinfo; `controllers` are the first column of /proc/cgroups.

    A hierarchy that is mounted twice counts where it was mounted first. Lines that are not of the documented form
    (proc(5)) are passed over.
    """
    roots: dict[str, str] = {}
    unified: str | None = None
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or len(kind) < 3:
            continue
        mount_point = _unescape(fields[4])
        if kind[0] == "cgroup2":
            unified = unified or mount_point
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                if option in controllers or option.startswith("name="):
                    roots.setdefault(option, mount_point)
    if any(not name.startswith("name=") for name in roots):
        return Layout("hybrid" if unified else "v1", roots, unified)
    if unified:
        return Layout("v2", {}, unified)
    raise CgroupError("no cgroup file system is mounted: mount cgroup2 on /sys/fs/cgroup")


def _unescape(field: str) -> str:
    """The kernel writes space, tab, newline and backslash as three octal digits."""
    if "\\" not in field:
        return field
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        field = field.replace("\\" + code, character)
    return field
