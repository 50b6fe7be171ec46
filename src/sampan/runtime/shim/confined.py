"""What a container's cgroup tells and does for its shim, whichever runtime made it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.cgroups import CgroupError

if TYPE_CHECKING:
    from sampan.cgroups import Cgroup, OomWatch


class Confined:
    """A container in a cgroup. Nothing here fails: a cgroup that is gone has nobody to signal and nothing to tell."""

    cgroup: Cgroup

    def kill_all(self, number: int = 9) -> None:
        """Signal every process in the cgroup."""
        try:
            self.cgroup.kill(number)
        except CgroupError:
            pass

    def oom_kills(self) -> int:
        """How many of its processes the kernel killed for want of memory."""
        try:
            return self.cgroup.oom_kills()
        except CgroupError:
            return 0

    def watch_oom(self) -> OomWatch | None:
        """Readable at the next of them; None where that cannot be watched."""
        try:
            return self.cgroup.watch_oom()
        except CgroupError:
            return None
