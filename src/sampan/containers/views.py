"""Images as mounts (`--mount type=image`): a read-only view of an image on a directory of the engine's own."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sampan.errors import SystemFailure, reason_of
from sampan.linux import mount as mnt
from sampan.linux import path as paths
from sampan.runtime.container.host import open_mount
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.containers.record import MountRecord
    from sampan.oci.runtime import Mount


def pin_view(entries: Sequence[Mount], record: MountRecord, place: str) -> None:
    """Mount the snapshotter's `entries`, or the part of them that the record names, on `place`, which is made.

    Blocks. Raises `SystemFailure`; nothing is mounted then.
    """
    try:
        view = -1
        for entry in entries:
            if view >= 0:
                os.close(view)
            view = open_mount(entry)
        try:
            mnt.mount_setattr(view, set_attributes=mnt.MOUNT_ATTR_RDONLY)
            whole = place + ".image" if record.subpath else place
            attach(view, view, whole)
        finally:
            os.close(view)
        if record.subpath:
            part = _part(whole, record)
            try:
                attach_part(part, place)
            finally:
                os.close(part)
    except (LaunchError, OSError) as error:
        raise SystemFailure(f"mounting the image {record.name}: {error}") from error


def attach_part(part: int, place: str) -> None:
    """Attach a copy of what the descriptor `part` stands for at `place`. It is of an attached mount: what is detached could not be
    copied before Linux 6.15."""
    copy = mnt.clone_mount(f"/proc/self/fd/{part}", recursive=True)
    try:
        attach(copy, part, place)
    finally:
        os.close(copy)


def attach(mount: int, what: int, place: str) -> None:
    """Attach a detached mount at `place`, made as a directory or a file after the kind of `what`."""
    if paths.is_directory(what):
        os.makedirs(place, mode=0o700, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        os.close(os.open(place, os.O_CREAT | os.O_CLOEXEC, 0o600))
    target = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        mnt.move_mount(mount, target)
    finally:
        os.close(target)


def _part(whole: str, record: MountRecord) -> int:
    """The subpath, resolved beneath the image: its links lead nowhere else."""
    root = os.open(whole, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return paths.open_beneath(root, record.subpath, os.O_PATH)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise SystemFailure(
                f"path concatenation escapes the base directory, base: {record.source}, subpath: {record.subpath}"
            ) from error
        path = os.path.join(record.source, record.subpath)
        raise SystemFailure(f"cannot access path {path}: lstat {path}: {reason_of(error)}") from error
    finally:
        os.close(root)
