"""Control groups of containers, v1 and v2, by one interface. Start with `detect`; `interface` tells the life cycle."""

from sampan.cgroups.interface import Cgroup, CgroupError, Entrance, OomWatch, Stats
from sampan.cgroups.layout import DEFAULT_PARENT, Layout, detect

__all__ = ["DEFAULT_PARENT", "Cgroup", "CgroupError", "Entrance", "Layout", "OomWatch", "Stats", "detect"]
