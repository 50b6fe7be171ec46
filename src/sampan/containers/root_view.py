"""A container's file system as seen by a worker process: through its init while it runs, mounted on demand when it is stopped.

Runs in a worker (`Workers.run`), whose mount namespace dies with it: nothing of a container ever appears in the host's mount table.
Every path that a user or a container names is then resolved beneath the root descriptor by the kernel.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sampan.linux import mount as mnt
from sampan.linux import path as paths
from sampan.linux.process import unshare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.oci.runtime import Mount

CLONE_NEWNS = 0x00020000


def view_arguments(
    *, pid: int, rootfs: Sequence[Mount], mounts: Sequence[Mount], anchor: str
) -> dict[str, Any]:
    """The arguments from which `open_root` opens a root. `pid` is init's while it runs, else 0; `anchor` an existing directory."""
    return {"pid": pid, "rootfs": list(rootfs), "mounts": list(mounts), "anchor": anchor}


def open_root(view: dict[str, Any]) -> int:
    """An O_PATH descriptor of the container's root directory. Call it at most once in a worker."""
    if view["pid"]:
        # The one magic link that is followed: it is the kernel's, and leads to the container's root whatever is mounted on it.
        return os.open(f"/proc/{view['pid']}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    from sampan.runtime.container.host import open_mount

    unshare(CLONE_NEWNS)
    mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_PRIVATE)
    root = -1
    for entry in view["rootfs"]:
        root = open_mount(entry)
    anchor = os.open(view["anchor"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mnt.move_mount(root, anchor)
    for entry in view["mounts"]:
        _mount_if_possible(root, entry)
    return root


def _mount_if_possible(root: int, entry: Mount) -> None:
    """A bind or volume onto its place; left out when the place does not exist yet (the container never ran)."""
    try:
        target = paths.open_in_root(root, entry["destination"], os.O_PATH)
    except OSError:
        return
    try:
        source = mnt.clone_mount(entry["source"], recursive=True)
        try:
            if "ro" in entry.get("options", ()):
                mnt.mount_setattr(source, set_attributes=mnt.MOUNT_ATTR_RDONLY)
            mnt.move_mount(source, target)
        finally:
            os.close(source)
    except OSError:
        return
    finally:
        os.close(target)
