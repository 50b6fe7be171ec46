"""What the parent opens for the stub: everything that a *host* path names, as detached mounts.

The stub thus resolves no host path, needs no right to see one (with a user namespace it may not), and the root
file system never appears in the host's mount table. A detached mount is a descriptor (open_tree, fsmount).
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from sampan.linux import mount as mnt
from sampan.linux import process, sockets
from sampan.runtime.container import idmapped
from sampan.runtime.container.cgroupfs import Hierarchy, open_hierarchies
from sampan.runtime.container.devices import DEFAULT_DEVICES
from sampan.runtime.container.failure import Step, from_message, reason, to_message
from sampan.runtime.container.idmapped import split_lower
from sampan.runtime.container.mountoptions import MountOptions, parse_options
from sampan.runtime.container.namespaces import of_spec
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import Device, Mount, Spec
    from sampan.runtime.container.config import InitConfig

_FSCONFIG_STRING = 255
"""fsconfig(2) refuses longer strings."""


class HostFiles:
    """Detached mounts for one container; close-on-exec, closed by `close`."""

    def __init__(self) -> None:
        self.root: list[tuple[str, int]] = []
        """(destination beneath the root, descriptor), the root itself first."""
        self.binds: dict[int, int] = {}
        """Index in `spec.mounts` → descriptor."""
        self.nodes: dict[str, int] = {}
        """Path → bind mount of the host's device node, for a user namespace, in which mknod is refused."""
        self.hierarchies: list[Hierarchy] = []
        """The container's cgroup directories, when the spec mounts a cgroup file system."""

    def open(self, config: InitConfig) -> None:
        """Open all that the configuration names. Raises LaunchError."""
        spec = config["spec"]
        rootfs = config.get("rootfs")
        if rootfs:
            for entry in rootfs:
                self.root.append((entry["destination"], open_mount(entry)))
        else:
            self.root.append(("/", _open_root_directory(spec, config["bundle"])))
        for index, entry in enumerate(spec.get("mounts", [])):
            options = parse_options(entry.get("options", []), entry.get("type", ""))
            if options.bind:
                self.binds[index] = _open_bind(entry, options, config)
            elif entry.get("type") in ("cgroup", "cgroup2") and not self.hierarchies:
                own = "cgroup" in of_spec(spec)[0]
                with Step("opening the container's cgroup directories"):
                    self.hierarchies = open_hierarchies(config.get("cgroup_paths", {}), own_cgroupns=own)
        if any(namespace["type"] == "user" for namespace in spec.get("linux", {}).get("namespaces", [])):
            self._open_nodes([*DEFAULT_DEVICES, *spec.get("linux", {}).get("devices", [])])

    def _open_nodes(self, devices: list[Device]) -> None:
        for device in devices:
            with Step(f'opening device node "{device["path"]}"'):
                self.nodes[device["path"]] = mnt.clone_mount(device["path"])

    def close(self) -> None:
        for _, descriptor in self.root:
            os.close(descriptor)
        for descriptor in (*self.binds.values(), *self.nodes.values()):
            os.close(descriptor)
        for hierarchy in self.hierarchies:
            if hierarchy.tree >= 0:
                os.close(hierarchy.tree)
        self.root.clear()
        self.binds.clear()
        self.nodes.clear()
        self.hierarchies.clear()


def _open_root_directory(spec: Spec, bundle: str) -> int:
    path = os.path.join(bundle, spec["root"]["path"])
    try:
        descriptor = mnt.clone_mount(path, recursive=True)
    except OSError as error:
        raise LaunchError(f"invalid rootfs: stat {path}: {reason(error)}", "other") from error
    if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
        os.close(descriptor)
        raise LaunchError(f"invalid rootfs: {path}: not a directory", "other")
    return descriptor


def _open_bind(entry: Mount, options: MountOptions, config: InitConfig) -> int:
    source = os.path.join(config["bundle"], entry.get("source", ""))
    try:
        descriptor = mnt.clone_mount(source, recursive=options.recursive_bind)
    except OSError as error:
        raise LaunchError(
            f'error mounting "{source}" to rootfs at "{entry["destination"]}": '
            f"stat {source}: {reason(error)}",
            "other",
        ) from error
    if options.id_mapped or entry.get("uidMappings"):
        try:
            _map_ids(descriptor, entry, options, config["spec"])
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def is_shared(options: MountOptions) -> bool:
    """Whether mounts in it shall get out (`shared`, `rshared`)."""
    return any(propagation == mnt.MS_SHARED for propagation, _ in options.propagation)


def clone_in(namespace: int, source: str, *, recursive: bool) -> int:
    """A detached copy of a mount as another mount namespace has it: of the same peer group. The caller is single-threaded."""
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        process.setns(namespace, process.CLONE_NEWNS)
        try:
            return mnt.clone_mount(source, recursive=recursive)
        finally:
            process.setns(own, process.CLONE_NEWNS)
    finally:
        os.close(own)


def _map_ids(descriptor: int, entry: Mount, options: MountOptions, spec: Spec) -> None:
    """By the mount's own mappings, else the container's (`unsupported.refuse` has seen that there are some)."""
    linux = spec.get("linux", {})
    uids = entry.get("uidMappings") or linux.get("uidMappings", [])
    gids = entry.get("gidMappings") or linux.get("gidMappings", [])
    with Step(f'failed to create id-mapped mount at "{entry["destination"]}"'):
        idmapped.map_mount(descriptor, uids, gids, recursive=options.recursive_id_mapped)


def open_mount(entry: Mount) -> int:
    """A detached mount for one of the snapshotter's entries (overlay, bind, or any file system).

    Raises LaunchError.
    """
    options = parse_options(entry.get("options", []), entry.get("type", ""))
    source = entry.get("source", "")
    with Step(f'mounting {entry.get("type", "bind")} "{source}"'):
        if options.bind:
            descriptor = mnt.clone_mount(source, recursive=options.recursive_bind)
            if entry.get("uidMappings"):
                idmapped.map_mount(descriptor, entry["uidMappings"], entry["gidMappings"])
            if options.attributes.set or options.attributes.clear:
                mnt.mount_setattr(
                    descriptor,
                    set_attributes=options.attributes.set,
                    clear_attributes=options.attributes.clear,
                    recursive=options.recursive_bind,
                )
            return descriptor
        if entry.get("uidMappings"):
            return _writable(
                idmapped.open_overlay(options, entry["uidMappings"], entry["gidMappings"]), options
            )
        try:
            return _writable(_new_filesystem(entry.get("type", ""), source, options), options)
        except OSError as error:
            # Linux before 6.7 has no "lowerdir+", and no string of fsconfig's holds many layers.
            if error.errno not in (errno.EINVAL, errno.ENAMETOOLONG):
                raise
        return _writable(_mounted_elsewhere(entry.get("type", ""), source, options), options)


def _writable(descriptor: int, options: MountOptions) -> int:
    """The mount, unless overlay has made it read-only: it does when there is no room for its work directory, and stays so."""
    upper = next((option[9:] for option in options.data if option.startswith("upperdir=")), "")
    if not upper or options.read_only or not os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
        return descriptor
    os.close(descriptor)
    number = errno.EROFS if os.statvfs(upper).f_flag & os.ST_RDONLY else errno.ENOSPC
    raise OSError(number, os.strerror(number), upper)


def _new_filesystem(fstype: str, source: str, options: MountOptions) -> int:
    context = mnt.fsopen(fstype)
    try:
        mnt.fsconfig(context, mnt.FSCONFIG_SET_STRING, "source", source or "none")
        for option in options.data:
            key, equals, value = option.partition("=")
            if key == "lowerdir" and fstype == "overlay":
                _set_lower_directories(context, value)
            elif not equals:
                mnt.fsconfig(context, mnt.FSCONFIG_SET_FLAG, key)
            elif len(value) > _FSCONFIG_STRING:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), key)
            else:
                mnt.fsconfig(context, mnt.FSCONFIG_SET_STRING, key, value)
        for flag in options.superblock:
            mnt.fsconfig(context, mnt.FSCONFIG_SET_FLAG, flag)
        mnt.fsconfig(context, mnt.FSCONFIG_CMD_CREATE)
        return mnt.fsmount(context, options.attributes.set)
    finally:
        os.close(context)


def _set_lower_directories(context: int, value: str) -> None:
    if len(value) <= _FSCONFIG_STRING:
        mnt.fsconfig(context, mnt.FSCONFIG_SET_STRING, "lowerdir", value)
        return
    for directory in split_lower(value):
        mnt.fsconfig(context, mnt.FSCONFIG_SET_STRING, "lowerdir+", directory)


def _mounted_elsewhere(fstype: str, source: str, options: MountOptions) -> int:
    """The same with mount(2), in a child's mount namespace, from which the tree is brought back detached."""
    ours, theirs = sockets.pair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            _mount_and_send(theirs, fstype, source, options)
        finally:
            os._exit(1)
    theirs.close()
    try:
        message, descriptors = sockets.receive(ours)
    finally:
        ours.close()
        os.waitpid(pid, 0)
    if "error" in message:
        raise from_message(message)
    return descriptors[0]


def _mount_and_send(channel: socket.socket, fstype: str, source: str, options: MountOptions) -> None:
    try:
        process.unshare(process.CLONE_NEWNS)
        mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_PRIVATE)
        data, directory = _page_of_options(options.data)
        os.chdir(directory)
        flags = mnt.MS_RDONLY if options.read_only else 0
        # Onto /proc: a directory that every host has and in which no layer can lie.
        mnt.mount(source or "none", "/proc", fstype, flags, data)
        sockets.send(channel, {}, [mnt.clone_mount("/proc")])
    except Exception as error:
        sockets.send(channel, to_message(error))


def _page_of_options(data: list[str]) -> tuple[str, str]:
    """(option string, working directory): 127 layers fit the page of mount(2) only by relative paths."""
    text = ",".join(data)
    if len(text) < 4000:
        return text, "/"
    lower = next((option for option in data if option.startswith("lowerdir=")), "lowerdir=")
    directories = split_lower(lower.removeprefix("lowerdir="))
    common = os.path.commonpath(directories)
    relative = ":".join(os.path.relpath(directory, common) for directory in directories)
    return ",".join(o if o is not lower else "lowerdir=" + relative for o in data), common
