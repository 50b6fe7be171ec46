"""Device nodes and the usual links in the container's own /dev, and its console."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from sampan.linux import mount as mnt
from sampan.linux import path as paths
from sampan.linux import terminal
from sampan.runtime.container.failure import reason
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import Device, DeviceCgroup, Resources

DEVPTS_SUPER_MAGIC = 0x1CD1

DEFAULT_DEVICES: tuple[Device, ...] = (
    {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0},
    {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0},
    {"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o666, "uid": 0, "gid": 0},
    {"path": "/dev/random", "type": "c", "major": 1, "minor": 8, "fileMode": 0o666, "uid": 0, "gid": 0},
    {"path": "/dev/urandom", "type": "c", "major": 1, "minor": 9, "fileMode": 0o666, "uid": 0, "gid": 0},
    {"path": "/dev/tty", "type": "c", "major": 5, "minor": 0, "fileMode": 0o666, "uid": 0, "gid": 0},
)
"""Nodes of every container (config-linux.md, "Default Devices"); the console and ptmx are made apart."""

_LINKS: tuple[tuple[str, str], ...] = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)

_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def _rule(major: int, minor: int, access: str = "rwm", kind: str = "c") -> DeviceCgroup:
    return {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}


_DEFAULT_RULES: tuple[DeviceCgroup, ...] = (
    _rule(-1, -1, "m", "c"),
    _rule(-1, -1, "m", "b"),
    *(_rule(device["major"], device["minor"]) for device in DEFAULT_DEVICES),
    _rule(136, -1),  # /dev/pts/*
    _rule(5, 2),  # /dev/ptmx
)
"""What every container may do: make any node (using it is another matter), its default devices, terminals."""


def with_default_rules(resources: Resources) -> Resources:
    """The resources with the device rules of the default devices added, as config-linux.md demands."""
    return {**resources, "devices": [*resources.get("devices", []), *_DEFAULT_RULES]}


def make_devices(root: int, devices: list[Device], host_nodes: dict[str, int]) -> None:
    """Make the default nodes and those of the spec beneath the root descriptor.

    `host_nodes`: path → detached bind mount of the host's node, in a user namespace, where mknod is refused.
    Raises LaunchError.
    """
    dev = paths.make_directories(root, "/dev")
    wanted: dict[str, Device] = {device["path"]: device for device in DEFAULT_DEVICES}
    wanted.update((device["path"], device) for device in devices)
    try:
        for path, device in wanted.items():
            try:
                _make_device(root, dev, device, host_nodes.get(path))
            except OSError as error:
                raise LaunchError(f'creating device node "{path}": {reason(error)}', "other") from error
    finally:
        os.close(dev)


def _make_device(root: int, dev: int, device: Device, host_node: int | None) -> None:
    directory, name = _parent(root, dev, device["path"])
    try:
        if host_node is not None:
            os.close(
                os.open(name, os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0, dir_fd=directory)
            )
            target = paths.open_without_links(directory, name)
            mnt.move_mount(host_node, target)
            os.close(target)
            return
        mode = _TYPES[device["type"]] | stat.S_IMODE(device.get("fileMode", 0o666))
        number = os.makedev(device.get("major", 0), device.get("minor", 0))
        try:
            os.mknod(name, mode, number, dir_fd=directory)
        except FileExistsError:
            _check_existing(directory, name, mode, number)
        owner = (device.get("uid", 0), device.get("gid", 0))
        if owner != (0, 0):
            os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
    finally:
        if directory != dev:
            os.close(directory)


def _parent(root: int, dev: int, path: str) -> tuple[int, str]:
    directory, name = os.path.split(os.path.normpath(path))
    return (dev if directory == "/dev" else paths.make_directories(root, directory)), name


def _check_existing(directory: int, name: str, mode: int, number: int) -> None:
    """What is there must be what was asked for: an image's own "null" may be anything (CVE-2025-31133)."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    same_type = stat.S_IFMT(status.st_mode) == stat.S_IFMT(mode)
    if not same_type or (not stat.S_ISFIFO(mode) and status.st_rdev != number):
        raise OSError(errno.EEXIST, "something else exists there", name)


def make_links(root: int) -> None:
    """/dev/fd, std*, core and ptmx. What exists already is left alone."""
    dev = paths.make_directories(root, "/dev")
    try:
        links = _LINKS
        if os.path.exists("/proc/kcore"):
            links = (*links, ("core", "/proc/kcore"))
        for name, target in links:
            try:
                os.symlink(target, name, dir_fd=dev)
            except FileExistsError:
                continue
        try:
            os.unlink("ptmx", dir_fd=dev)
        except FileNotFoundError:
            pass
        os.symlink("pts/ptmx", "ptmx", dir_fd=dev)
    finally:
        os.close(dev)


def open_console(root: int, devpts: int) -> tuple[int, int]:
    """(master, slave) of a new terminal in the container's own devpts.

    `devpts`: descriptor of the instance that this runtime mounted, or -1: whatever is at /dev/pts beneath the
    root, which is then checked. CVE-2025-52565: a fake ptmx or a link at /dev/pts/N must not become our console.
    """
    own = devpts
    if devpts < 0:
        own = paths.open_without_links(root, "dev/pts", os.O_PATH | os.O_DIRECTORY)
    try:
        if paths.filesystem_type(own) != DEVPTS_SUPER_MAGIC:
            raise OSError(errno.EINVAL, "/dev/pts in the container is not a devpts")
        return terminal.open_pair("ptmx", directory=own)
    finally:
        if own != devpts:
            os.close(own)


def mount_console(root: int, slave: int) -> None:
    """Bind the terminal's slave on /dev/console, descriptor to descriptor."""
    dev = paths.make_directories(root, "/dev")
    try:
        flags = os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            os.close(os.open("console", flags | os.O_EXCL, 0o600, dir_fd=dev))
        except FileExistsError:
            pass
        target = paths.open_without_links(dev, "console")
        tree = mnt.clone_mount("", directory=slave)
        mnt.move_mount(tree, target)
        os.close(tree)
        os.close(target)
    finally:
        os.close(dev)
