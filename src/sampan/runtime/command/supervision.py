"""Containers of `--systemd-cgroup`: systemd makes the cgroup as a transient scope, is told of limits, and takes it away.

For all others nothing is done by `change` and `end`, and systemd's protocol is not imported.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.cgroups.interface import CgroupError

if TYPE_CHECKING:
    from sampan.oci.runtime import Resources
    from sampan.runtime.command.state import Container

_RUNNING = "/run/systemd/system"


def require() -> None:
    """Raises CgroupError, in runc's words, when systemd does not run here (sd_booted(3))."""
    if not os.path.isdir(_RUNNING):
        raise CgroupError("systemd not running on this host, cannot use systemd cgroups manager")


def begin(container: Container, resources: Resources) -> None:
    """Have systemd put the container's first process into its scope. Raises CgroupError."""
    record = container.record
    from sampan.cgroups import scope
    from sampan.cgroups.systemd import Systemd

    place = scope.parse(record["spec"]["linux"].get("cgroupsPath", ""), record["id"])
    wanted = scope.properties(place, record["id"], record["pid"], resources, v2=_is_v2())
    with Systemd() as systemd:
        systemd.start_scope(place.unit, wanted)
    record["unit"] = place.unit


def change(container: Container, resources: Resources) -> None:
    """Tell systemd of new limits: it would write the old ones again. Raises CgroupError."""
    unit = container.record.get("unit", "")
    if not unit:
        return
    from sampan.cgroups import scope
    from sampan.cgroups.systemd import Systemd

    if wanted := scope.limits(resources, v2=_is_v2()):
        with Systemd() as systemd:
            systemd.set_properties(unit, wanted)


def end(container: Container) -> None:
    """Have systemd forget the scope. What it does not do is done by itself once the cgroup is empty. Raises CgroupError."""
    unit = container.record.get("unit", "")
    if not unit:
        return
    from sampan.cgroups.systemd import Systemd

    with Systemd() as systemd:
        systemd.stop(unit)


def _is_v2() -> bool:
    from sampan.cgroups.layout import detect

    return detect().version == "v2"
