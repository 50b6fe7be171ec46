"""A part of a mounted tree on a directory of our own, from which the runtime binds it into a program's file system.

The whole is mounted where only the engine looks, the part opened beneath its root (links in the tree lead nowhere else), and
that very descriptor mounted.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sampan.containers.views import attach, attach_part
from sampan.errors import NotFound, SystemFailure
from sampan.linux import mount as mnt
from sampan.linux import path as paths
from sampan.runtime.container.host import open_mount
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import Mount

_WHOLE = ".whole"


def pin_part(entries: Sequence[Mount], selector: str, place: str) -> None:
    """Mount what `selector` names in a tree on `place`, which is made. Blocks. Raises `NotFound`, `SystemFailure`."""
    try:
        tree = -1
        for entry in entries:
            if tree >= 0:
                os.close(tree)
            tree = open_mount(entry)
        try:
            attach(tree, tree, place + _WHOLE)
        finally:
            os.close(tree)
        part = _open(place + _WHOLE, selector)
        try:
            attach_part(part, place)
        finally:
            os.close(part)
    except (LaunchError, OSError) as error:
        raise SystemFailure(f"mounting {selector}: {error}") from error


def _open(root: str, selector: str) -> int:
    whole = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return paths.open_in_root(whole, selector, os.O_PATH)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFound(f'"{selector}": not found') from None
        raise
    finally:
        os.close(whole)


def unpin(place: str) -> None:
    """Take it back. Idempotent."""
    for each in (place, place + _WHOLE):
        try:
            mnt.umount(each, mnt.MNT_DETACH)
        except OSError:
            continue


def remove_run(directory: str) -> None:
    """Remove a run's directory with all that is mounted in it: what a killed engine left."""
    for name in os.listdir(directory):
        unpin(os.path.join(directory, name))
    shutil.rmtree(directory, ignore_errors=True)
