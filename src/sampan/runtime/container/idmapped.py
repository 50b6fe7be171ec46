"""Mounts that show other owners than the disk has: what id-maps them, and overlay file systems on top of such.

An image's layers belong to root on disk. A container in a user namespace sees them through id-mapped mounts (Linux 5.19 for
overlay), as its own root's: one copy of a layer serves every mapping, and what the container writes is on disk as if it had run
without, so that copies, commits and exports need to know nothing of it.
"""

from __future__ import annotations

import os
import shutil
import socket
from typing import TYPE_CHECKING, Any

from sampan.errors import SystemFailure
from sampan.linux import mount as mnt
from sampan.linux import process, sockets
from sampan.runtime.container.failure import Step, from_message, to_message
from sampan.runtime.container.mountoptions import parse_options
from sampan.runtime.container.namespaces import write_id_mappings
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import IDMapping
    from sampan.runtime.container.mountoptions import MountOptions

_MOUNTER_ID = 4_000_000_000
"""On disk, the owner of what the kernel makes in overlay's work directory on behalf of the host's root, who has no id in the
container's mapping. Nothing else ever has it."""


def user_namespace(uids: list[IDMapping], gids: list[IDMapping]) -> int:
    """A descriptor of a new user namespace with these mappings and no process in it. Raises LaunchError."""
    ours, theirs = sockets.pair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            process.unshare(process.CLONE_NEWUSER)
            theirs.send(b".")
            theirs.recv(1)  # until the parent has it, or is gone
        finally:
            os._exit(0)
    theirs.close()
    try:
        with Step("making a user namespace"):
            if not ours.recv(1):
                raise OSError(0, "the process for it has ended")
        write_id_mappings(pid, uids, gids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        ours.close()
        os.waitpid(pid, 0)


def map_mount(
    descriptor: int, uids: list[IDMapping], gids: list[IDMapping], *, recursive: bool = False
) -> None:
    """Id-map a detached mount: `containerID` is what the file system has, `hostID` what is shown. Raises OSError, LaunchError."""
    namespace = user_namespace(uids, gids)
    try:
        mnt.mount_setattr(descriptor, user_namespace=namespace, recursive=recursive)
    finally:
        os.close(namespace)


def open_overlay(options: MountOptions, uids: list[IDMapping], gids: list[IDMapping]) -> int:
    """A detached overlay mount whose layers are id-mapped. Raises OSError, LaunchError."""
    mounter: IDMapping = {"containerID": _MOUNTER_ID, "hostID": 0, "size": 1}
    namespace = user_namespace([*uids, mounter], [*gids, mounter])
    ours, theirs = sockets.pair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            _mount_and_send(theirs, options, namespace)
        finally:
            os._exit(1)
    theirs.close()
    os.close(namespace)
    try:
        message, descriptors = sockets.receive(ours)
    finally:
        ours.close()
        os.waitpid(pid, 0)
    if "error" in message:
        raise from_message(message)
    return descriptors[0]


def _mount_and_send(channel: socket.socket, options: MountOptions, namespace: int) -> None:
    """In a child: the layers get names in a mount namespace of its own, since overlay takes paths."""
    try:
        process.unshare(process.CLONE_NEWNS)
        mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_PRIVATE)
        # Sources first: then /proc, a directory that every host has, becomes the place for the names.
        trees: dict[str, int] = {}
        words: list[str] = []
        for option in options.data:
            key, _, value = option.partition("=")
            if key == "lowerdir":
                names = [f"l{number}" for number, _ in enumerate(split_lower(value))]
                trees.update(zip(names, map(mnt.clone_mount, split_lower(value)), strict=True))
                words.append("lowerdir=" + ":".join(names))
            elif key in ("upperdir", "workdir"):
                # Both from one mount: overlay renames from the one into the other.
                directory, name = os.path.split(value)
                if "u" not in trees:
                    trees["u"] = mnt.clone_mount(directory)
                words.append(f"{key}=u/{name}")
            else:
                words.append(option)
        mnt.mount("names", "/proc", "tmpfs", 0, "mode=700")
        os.chdir("/proc")
        for name, tree in trees.items():
            mnt.mount_setattr(tree, user_namespace=namespace)
            os.mkdir(name)
            place = os.open(name, os.O_PATH | os.O_CLOEXEC)
            mnt.move_mount(tree, place)
            os.close(place)
        os.mkdir("merged")
        flags = mnt.MS_RDONLY if options.read_only else 0
        mnt.mount("overlay", "merged", "overlay", flags, ",".join(words))
        sockets.send(channel, {}, [mnt.clone_mount("/proc/merged")])
    except Exception as error:
        sockets.send(channel, to_message(error))


def check_job(args: dict[str, Any], _fds: list[int], _report: object) -> dict[str, Any]:
    """Mount an overlay of empty layers beneath `directory`. Raises SystemFailure when this kernel or disk cannot."""
    place = args["directory"]
    layers = [f"{place}/{name}" for name in ("lower", "snapshot/fs", "snapshot/work")]
    for layer in layers:
        os.makedirs(layer, exist_ok=True)
    data = [f"{key}={layer}" for key, layer in zip(("lowerdir", "upperdir", "workdir"), layers, strict=True)]
    try:
        os.close(open_overlay(parse_options(data, "overlay"), args["uids"], args["gids"]))
    except (LaunchError, OSError) as error:
        raise SystemFailure(str(error)) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return {}


def split_lower(value: str) -> list[str]:
    """`lowerdir=` at its colons; a backslash makes the next character a plain one."""
    directories = [""]
    escaped = False
    for character in value:
        if escaped or character not in "\\:":
            directories[-1] += character
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            directories.append("")
    return directories
