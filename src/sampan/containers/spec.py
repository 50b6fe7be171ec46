"""From a container's record to the OCI runtime spec that its shim executes.

`build_spec` is a pure function of the record and of `SpecContext`, which holds what only the moment of the start knows: other
containers' processes, the files made for this run.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from sampan.containers import capabilities, modes
from sampan.containers.security import SecurityOptions, parse_security_options
from sampan.containers.spec_resources import devices, oci_resources, rlimits
from sampan.oci import defaults
from sampan.oci.runtime import OCI_VERSION

if TYPE_CHECKING:
    from sampan.containers.record import ContainerRecord
    from sampan.engineapi.container import HostConfig, Ulimit
    from sampan.oci import runtime as oci
    from sampan.oci.remapping import Remapping


class SharedNamespaces(NamedTuple):
    """Host pids of the inits of containers whose namespaces are shared; 0 where none is."""

    network: int = 0
    ipc: int = 0
    pid: int = 0


class SpecContext(NamedTuple):
    """What only the moment of a start knows."""

    mounts: Sequence[oci.Mount]
    """The user's mounts and the files of the container (resolv.conf, hostname, hosts), parents before children."""
    shared: SharedNamespaces = SharedNamespaces()
    shm: oci.Mount | None = None
    """/dev/shm when it is not a private tmpfs."""
    cgroup_parent: str = "/docker"
    remapping: Remapping | None = None
    """The mapping of its user namespace; None: it is in the host's."""
    default_ulimits: Sequence[Ulimit] = ()
    default_init: bool = False
    default_no_new_privileges: bool = False
    seccomp_default: str = ""
    """`unconfined`, or a profile as JSON, from the engine's configuration; "" is Docker's default."""


def build_spec(record: ContainerRecord, context: SpecContext) -> oci.Spec:
    """The spec. Raises `InvalidParameter` and `SystemFailure` for what only shows now (devices gone, bad profile)."""
    host = record.host_config
    security = parse_security_options(
        host.security_opt or (), no_new_privileges=context.default_no_new_privileges
    )
    granted = capabilities.effective(host.cap_add, host.cap_drop, privileged=host.privileged)
    spec: oci.Spec = {
        "ociVersion": OCI_VERSION,
        "process": _process(record, context, security, granted),
        "root": {"path": "rootfs", "readonly": host.readonly_rootfs},
        "mounts": _mounts(host, context, writable_cgroups=bool(security.writable_cgroups)),
        "linux": _linux(record, context, security, granted),
    }
    if host.uts_mode != "host":
        spec["hostname"] = record.config.hostname
        if record.config.domainname:
            spec["domainname"] = record.config.domainname
    elif record.config.domainname:
        # The host's name is not the container's to change: the runtime refuses it, in runc's words.
        spec["linux"]["sysctl"]["kernel.domainname"] = record.config.domainname
    if host.annotations:
        spec["annotations"] = dict(host.annotations)
    return spec


def environment(record: ContainerRecord, *, tty: bool) -> list[str]:
    """Docker's order: PATH, HOSTNAME, TERM, then what image and user say. The runtime adds HOME, by the container's own passwd."""
    entries = [f"PATH={defaults.PATH}", f"HOSTNAME={record.config.hostname}"]
    if tty:
        entries.append("TERM=xterm")
    return merge_environment(entries, record.config.env or ())


def merge_environment(base: Sequence[str], changes: Sequence[str]) -> list[str]:
    """A known name is replaced in place, a new one appended, a name without `=` removed."""
    merged = {entry.partition("=")[0]: entry for entry in base}
    for entry in changes:
        name, equals, _ = entry.partition("=")
        if equals:
            merged[name] = entry
        else:
            merged.pop(name, None)
    return list(merged.values())


def capability_sets(granted: list[str]) -> oci.Capabilities:
    """What root has across exec; the runtime leaves any other user the bounding set only. Never inheritable (CVE-2022-24769)."""
    return {"bounding": granted, "effective": granted, "permitted": granted}


def _process(
    record: ContainerRecord, context: SpecContext, security: SecurityOptions, granted: list[str]
) -> oci.Process:
    host, config = record.host_config, record.config
    process: oci.Process = {
        "terminal": config.tty,
        "cwd": config.working_dir or "/",
        "args": [record.path, *record.args],
        "env": environment(record, tty=config.tty),
        "user": {"uid": 0, "gid": 0},
        "capabilities": capability_sets(granted),
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": host.oom_score_adj,
    }
    if config.tty and any(host.console_size):
        process["consoleSize"] = {"height": host.console_size[0], "width": host.console_size[1]}
    limits = {limit.name: limit for limit in context.default_ulimits}
    limits.update({limit.name: limit for limit in host.ulimits or ()})
    if limits:
        process["rlimits"] = rlimits(list(limits.values()))
    if record.app_armor_profile:
        process["apparmorProfile"] = record.app_armor_profile
    if record.process_label:
        process["selinuxLabel"] = record.process_label
    return process


def _linux(
    record: ContainerRecord, context: SpecContext, security: SecurityOptions, granted: list[str]
) -> oci.Linux:
    host = record.host_config
    nodes, rules = devices(host)
    resources = oci_resources(host)
    resources["devices"] = rules
    linux: oci.Linux = {
        "namespaces": _namespaces(host, context),
        "cgroupsPath": _cgroup_path(host.cgroup_parent or context.cgroup_parent, record.id),
        "resources": resources,
        "sysctl": _sysctls(host, context.remapping),
        "devices": nodes,
        "maskedPaths": _paths(host.masked_paths, host, defaults.masked_paths),
        "readonlyPaths": _paths(host.readonly_paths, host, defaults.readonly_paths),
    }
    if context.remapping is not None:
        linux["uidMappings"], linux["gidMappings"] = context.remapping.uids, context.remapping.gids
    if record.mount_label:
        linux["mountLabel"] = record.mount_label
    propagation = _rootfs_propagation(context.mounts)
    if propagation:
        linux["rootfsPropagation"] = propagation
    if (filter := _seccomp(host, security, context, tuple(granted))) is not None:
        linux["seccomp"] = filter
    return linux


def _cgroup_path(parent: str, container_id: str) -> str:
    """From the hierarchy's root, whatever way up a relative parent tries to take."""
    return posixpath.join(posixpath.normpath("/" + parent.lstrip("/")), container_id)


def _namespaces(host: HostConfig, context: SpecContext) -> list[oci.Namespace]:
    shared = context.shared
    spaces: list[oci.Namespace] = [{"type": "mount"}]
    if context.remapping is not None:
        donor = shared.network or shared.ipc or shared.pid
        # Who shares another container's namespaces is in the user namespace that owns them.
        spaces.append({"type": "user", "path": f"/proc/{donor}/ns/user"} if donor else {"type": "user"})
    if shared.network:
        spaces.append({"type": "network", "path": f"/proc/{shared.network}/ns/net"})
    elif host.network_mode != "host":
        spaces.append({"type": "network"})
    if host.uts_mode != "host":
        spaces.append({"type": "uts"})
    if shared.pid:
        spaces.append({"type": "pid", "path": f"/proc/{shared.pid}/ns/pid"})
    elif host.pid_mode != "host":
        spaces.append({"type": "pid"})
    if shared.ipc:
        spaces.append({"type": "ipc", "path": f"/proc/{shared.ipc}/ns/ipc"})
    elif host.ipc_mode != "host":
        spaces.append({"type": "ipc"})
    if host.cgroupns_mode == "private":
        spaces.append({"type": "cgroup"})
    return spaces


def _sysctls(host: HostConfig, remapping: Remapping | None) -> dict[str, str]:
    """Docker lets every user of a container bind low ports and ping, where the network namespace is its own."""
    sysctls: dict[str, str] = {}
    if modes.network_is_private(host.network_mode):
        sysctls["net.ipv4.ip_unprivileged_port_start"] = "0"
        if os.path.exists("/proc/sys/net/ipv4/ping_group_range"):
            # The kernel takes only groups that the user namespace has.
            last = remapping.last_gid if remapping is not None else 2147483647
            sysctls["net.ipv4.ping_group_range"] = f"0 {last}"
    sysctls.update(host.sysctls or {})
    return sysctls


def _paths(given: list[str] | None, host: HostConfig, default: Callable[[], list[str]]) -> list[str]:
    if given is not None:
        return list(given)
    return [] if host.privileged else default()


def _mounts(host: HostConfig, context: SpecContext, *, writable_cgroups: bool) -> list[oci.Mount]:
    """Kernel file systems first, except where the user mounts something else, then the user's."""
    taken = {mount["destination"] for mount in context.mounts}
    if host.ipc_mode == "none":
        taken.add("/dev/shm")
    mounts: list[oci.Mount] = []
    for mount in defaults.mounts(privileged=host.privileged, shm_size=host.shm_size or defaults.SHM_SIZE):
        destination = mount["destination"]
        if destination in taken or ("/dev" in taken and destination.startswith("/dev/")):
            continue  # who brings a /dev brings what is in it
        if destination == "/dev/shm" and context.shm is not None:
            mounts.append(context.shm)
        elif destination == "/dev/mqueue" and host.ipc_mode == "host":
            mounts.append(_host_bind("/dev/mqueue"))
        elif destination == "/dev/shm" and host.ipc_mode == "host":
            mounts.append(_host_bind("/dev/shm"))
        elif destination == "/sys/fs/cgroup" and writable_cgroups:
            mounts.append({**mount, "options": [word for word in mount["options"] if word != "ro"]})
        else:
            mounts.append(mount)
    mounts.extend(context.mounts)
    return mounts


def _host_bind(path: str) -> oci.Mount:
    return {
        "destination": path,
        "type": "bind",
        "source": path,
        "options": ["rbind", "nosuid", "noexec", "nodev"],
    }


def _rootfs_propagation(mounts: Sequence[oci.Mount]) -> str:
    """A mount that shall propagate needs a root that lets it."""
    options = {option for mount in mounts for option in mount.get("options", ())}
    if options & {"shared", "rshared"}:
        return "rshared"
    if options & {"slave", "rslave"}:
        return "rslave"
    return ""


def _seccomp(
    host: HostConfig, security: SecurityOptions, context: SpecContext, granted: tuple[str, ...]
) -> oci.Seccomp | None:
    wanted = security.seccomp or ("unconfined" if host.privileged else context.seccomp_default)
    if wanted == "unconfined":
        return None
    return resolved_profile("" if wanted in ("", "builtin") else wanted, granted)


@lru_cache(maxsize=64)
def resolved_profile(profile: str, granted: tuple[str, ...]) -> oci.Seccomp:
    """Docker's default profile ("") or the user's JSON, for these capabilities on this machine. Callers do not change it."""
    from sampan import seccomp

    loaded = seccomp.load_profile(profile.encode()) if profile else seccomp.load_profile()
    return seccomp.resolve(
        loaded, list(granted), arch=seccomp.host_architecture(), kernel=seccomp.host_kernel()
    )
