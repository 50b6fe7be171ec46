"""A container's file system as seen by a worker process: through its init while it runs, mounted on demand when it is stopped.

Runs in a worker (`Workers.run`), whose mount namespace dies with it: nothing of a container ever appears in the host's mount table.
Every path that a user or a container names is then resolved beneath the root descriptor by the kernel.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sampan.linux import mount as mnt
from sampan.linux import path as paths
from sampan.linux.process import setns, unshare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.oci.remapping import Remapping
    from sampan.oci.runtime import Mount

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000


def view_arguments(
    *,
    pid: int,
    rootfs: Sequence[Mount],
    mounts: Sequence[Mount],
    anchor: str,
    bare: bool = False,
    remapping: Remapping | None = None,
) -> dict[str, Any]:
    """The arguments from which `open_root` opens a root. `pid` is init's while it runs, else 0; `anchor` an existing directory.

    `bare`: without what is mounted in it (/proc, /dev, volumes); give no `mounts` then. `remapping`: that of the container's
    user namespace, if it has one.
    """
    return {
        "pid": pid,
        "rootfs": list(rootfs if remapping is None else remapping.mapped(list(rootfs))),
        "mounts": list(mounts),
        "anchor": anchor,
        "bare": bare,
        "remapping": remapping and remapping._asdict(),
    }


def open_root(view: dict[str, Any]) -> int:
    """An O_PATH descriptor of the container's root directory. Call it at most once in a worker.

    Of a container in a user namespace the worker becomes the root: owners are then those that the container sees.
    """
    root = _open_root(view)
    become_root_of(view["remapping"])
    return root


def become_root_of(remapping: dict[str, Any] | None) -> None:
    """Be uid 0 of a user namespace with these mappings; nothing for None. Host paths may be out of reach afterwards."""
    if not remapping:
        return
    from sampan.runtime.container.idmapped import user_namespace

    namespace = user_namespace(remapping["uids"], remapping["gids"])
    setns(namespace, CLONE_NEWUSER)
    os.close(namespace)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _open_root(view: dict[str, Any]) -> int:
    if view["pid"] and view["bare"]:
        return _open_bare_root(view["pid"])
    if view["pid"]:
        # The one magic link that is followed: it is the kernel's, and leads to the container's root whatever is mounted on it.
        return os.open(f"/proc/{view['pid']}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    from sampan.runtime.container.host import open_mount

    unshare(CLONE_NEWNS)
    mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_PRIVATE)
    # Before the root lies on the anchor, which may hold them: the container's own files do lie there.
    sources = [(entry, _clone_if_possible(entry["source"])) for entry in view["mounts"]]
    root = -1
    for entry in view["rootfs"]:
        root = open_mount(entry)
    anchor = os.open(view["anchor"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mnt.move_mount(root, anchor)
    for entry, source in sources:
        if source >= 0:
            _mount_if_possible(root, entry, source)
            os.close(source)
    return root


def _open_bare_root(pid: int) -> int:
    """The root of a running container, as it lies beneath its mounts.

    Only its own mount namespace can copy that mount, so it is entered for one system call. In there every path is the
    container's: nothing may be imported or looked up before we are back (CVE-2019-14271).
    """
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    theirs = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_FS)  # setns(2) wants a root and directory that no other thread shares
        setns(theirs, CLONE_NEWNS)
        try:
            return mnt.clone_mount("/")
        finally:
            setns(home, CLONE_NEWNS)
    finally:
        os.close(theirs)
        os.close(home)


def _clone_if_possible(path: str) -> int:
    """A detached mount of `path`; -1 where it is gone."""
    try:
        return mnt.clone_mount(path, recursive=True)
    except OSError:
        return -1


def _mount_if_possible(root: int, entry: Mount, source: int) -> None:
    """A bind or volume onto its place, which is made when the container never ran; left out where that cannot be."""
    try:
        target = _place(root, entry)
    except OSError:
        return
    try:
        if "ro" in entry.get("options", ()):
            mnt.mount_setattr(source, set_attributes=mnt.MOUNT_ATTR_RDONLY)
        mnt.move_mount(source, target)
    except OSError:
        return
    finally:
        os.close(target)


def _place(root: int, entry: Mount) -> int:
    """Where the mount goes: a directory is made for a directory, as the runtime would at the start."""
    try:
        return paths.open_in_root(root, entry["destination"], os.O_PATH)
    except FileNotFoundError:
        if not os.path.isdir(entry["source"]):
            raise
        return paths.make_directories(root, entry["destination"])
