"""What the specification has and this runtime has not, refused by name: nothing asked for is silently left out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.runtime.container.mountoptions import parse_options
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import Mount, Process, Spec


def refuse(spec: Spec) -> None:
    """Raises LaunchError for the first thing that is not there."""
    linux = spec.get("linux", {})
    for name in ("intelRdt", "memoryPolicy", "netDevices"):
        if linux.get(name):
            raise LaunchError(f"linux.{name} is not supported", "other")
    if linux.get("mountLabel"):
        raise LaunchError("linux.mountLabel: SELinux is not supported", "other")
    if not any(namespace["type"] == "uts" for namespace in linux.get("namespaces", [])):
        # The name would be the host's.
        for name in ("hostname", "domainname"):
            if spec.get(name):
                raise LaunchError(f"unable to set {name} without a private UTS namespace", "other")
    for entry in spec.get("mounts", []):
        if fault := _idmap_fault(entry, spec):
            raise LaunchError(f'mounts: "{entry["destination"]}": {fault}', "other")
    refuse_process(spec["process"])


def _idmap_fault(entry: Mount, spec: Spec) -> str:
    """Why an id-mapped mount cannot be, in runc's words; "" when it can, or is none."""
    options = parse_options(entry.get("options", []), entry.get("type", ""))
    uids, gids = entry.get("uidMappings"), entry.get("gidMappings")
    if not (options.id_mapped or uids or gids):
        return ""
    if not options.bind:
        return "id-mapped mounts are only supported for bind-mounts"
    if os.geteuid() != 0:
        return "id-mapped mounts are not supported for rootless containers"
    linux = spec.get("linux", {})
    of_container = linux.get("uidMappings") and linux.get("gidMappings") and not (uids or gids)
    return (
        ""
        if of_container or (uids and gids)
        else "id-mapped mounts must have both uid and gid mappings specified"
    )


def refuse_process(process: Process) -> None:
    """The same for a process alone."""
    if process.get("selinuxLabel"):
        raise LaunchError("process.selinuxLabel: SELinux is not supported", "other")
