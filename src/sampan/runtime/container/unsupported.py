"""What the specification has and this runtime has not, refused by name: nothing asked for is silently left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import Process, Spec
    from sampan.seccomp.interface import Program


def refuse(spec: Spec, seccomp: Program | None) -> None:
    """Raises LaunchError for the first thing that is not there."""
    linux = spec.get("linux", {})
    for name in ("intelRdt", "memoryPolicy", "netDevices"):
        if linux.get(name):
            raise LaunchError(f"linux.{name} is not supported", "other")
    if linux.get("mountLabel"):
        raise LaunchError("linux.mountLabel: SELinux is not supported", "other")
    for entry in spec.get("mounts", []):
        options = entry.get("options", [])
        if entry.get("uidMappings") or entry.get("gidMappings") or "idmap" in options or "ridmap" in options:
            raise LaunchError(
                f'mounts: "{entry["destination"]}": id-mapped mounts are not supported', "other"
            )
    if seccomp is not None and seccomp.listener_path:
        raise LaunchError("linux.seccomp.listenerPath: notifications are not supported", "other")
    refuse_process(spec["process"])


def refuse_process(process: Process) -> None:
    """The same for a process alone."""
    if process.get("selinuxLabel"):
        raise LaunchError("process.selinuxLabel: SELinux is not supported", "other")
