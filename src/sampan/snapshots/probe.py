"""Which snapshotter a directory can carry: overlay is tried for real, on a mount that nobody else sees."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sampan.errors import InvalidParameter, SystemFailure, no_room, reason_of
from sampan.linux import mount
from sampan.snapshots.copy import CopySnapshotter
from sampan.snapshots.overlay import FEATURES, OverlaySnapshotter

if TYPE_CHECKING:
    from sampan.snapshots.directories import DirectorySnapshotter
    from sampan.store import Database

Choice = Literal["auto", "overlayfs", "native"]
_NAMES = {"": "auto", "overlay2": "overlayfs", "overlay": "overlayfs", "vfs": "native"}


async def start_snapshotter(
    database: Database, directory: Path, choice: str = "auto"
) -> DirectorySnapshotter:
    """The snapshotter for a data root, in a directory of its name below `directory`.

    `choice` is `--storage-driver`'s value: `overlayfs` (or Docker's `overlay2`), `native` (or `vfs`), or `auto`.
    What was used before is kept. Raises InvalidParameter for an unknown name, SystemFailure when the asked-for one
    can't work here.
    """
    name = _NAMES.get(choice, choice)
    if name not in ("auto", "overlayfs", "native"):
        raise InvalidParameter(f"driver not supported: {choice}")
    await asyncio.to_thread(directory.mkdir, 0o700, parents=True, exist_ok=True)
    if name == "auto" and (directory / "native").is_dir() and not (directory / "overlayfs").is_dir():
        name = "native"
    reason = "" if name == "native" else await asyncio.to_thread(overlay_obstacle, directory)
    if reason == NO_ROOM:
        # Nothing is known then, and another snapshotter would find none of the layers.
        if not (directory / "overlayfs").is_dir():
            raise SystemFailure(f"cannot try overlayfs in {directory}: {reason}")
        reason = ""
    if name == "overlayfs" and reason:
        raise SystemFailure(f"overlayfs does not work in {directory}: {reason}")
    if name == "native" or reason:
        return await CopySnapshotter.start(database, directory / "native")
    return await OverlaySnapshotter.start(database, directory / "overlayfs")


NO_ROOM = "no space left on device"


def overlay_obstacle(directory: Path) -> str:
    """Why overlay can't be used in `directory`; empty when it can, `NO_ROOM` on a full disk. Takes a millisecond or two."""
    try:
        scratch = Path(tempfile.mkdtemp(prefix="probe-", dir=directory))
    except OSError as error:
        return NO_ROOM if no_room(error) else f"cannot write there: {reason_of(error)}"
    try:
        return _try_overlay(scratch)
    except OSError as error:
        return NO_ROOM if no_room(error) else reason_of(error)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _try_overlay(scratch: Path) -> str:
    for name in ("lower", "upper", "work"):
        (scratch / name).mkdir()
    (scratch / "lower" / "hidden").touch()
    (scratch / "lower" / "directory").mkdir()
    options: dict[str, str | None] = {
        f"{name}dir": str(scratch / name) for name in ("lower", "upper", "work")
    }
    for feature in FEATURES:
        key, _, value = feature.partition("=")
        options[key] = value
    merged = mount.new_filesystem("overlay", options)
    try:
        os.unlink("hidden", dir_fd=merged)
        os.rmdir("directory", dir_fd=merged)
        os.mkdir("directory", dir_fd=merged)
    finally:
        os.close(merged)
    whiteout = os.lstat(scratch / "upper" / "hidden")
    if not stat.S_ISCHR(whiteout.st_mode) or whiteout.st_rdev != 0:
        return "the file system can't keep whiteouts"
    if os.getxattr(scratch / "upper" / "directory", "trusted.overlay.opaque") != b"y":
        return "the file system can't keep trusted.overlay attributes"
    return ""
