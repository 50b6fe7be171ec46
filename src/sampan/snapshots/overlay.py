"""Snapshots on the kernel's overlay file system: `<id>/fs` is the upper directory, `<id>/work` overlay's own.

Decisions, each passed to the mount so that the kernel's defaults don't matter:

- `redirect_dir=off`, `metacopy=off`: an upper directory then holds whole files and plain whiteouts, so that a layer
  can be read from it directly. The price: renaming a directory of the image copies it, as with Docker.
- `index=off`: an upper directory may be mounted again at once after its last mount was left, and hard links to files
  of the image break on write, as with Docker.
- `userxattr` where the engine has no CAP_SYS_ADMIN over the file system (an ordinary user's engine): marks
  are `user.overlay.*` then.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

from sampan.snapshots.directories import DirectorySnapshotter
from sampan.snapshots.interface import VOLATILE, ApplyTarget

if TYPE_CHECKING:
    from pathlib import Path

    from sampan.oci.runtime import Mount
    from sampan.snapshots.records import Record

FEATURES = ("index=off", "metacopy=off", "redirect_dir=off")


class OverlaySnapshotter(DirectorySnapshotter):
    """See the module and `sampan.snapshots.interface`."""

    name = "overlayfs"
    user_xattrs = False
    """Set for an engine inside a user namespace."""

    def _populate(self, directory: Path, parents: list[Record]) -> None:
        (directory / "work").mkdir(0o700)
        upper = directory / "fs"
        upper.mkdir(0o755)
        if parents:
            _inherit_root(self._tree(parents[0].id), upper)

    def _mounts(self, record: Record, parents: list[Record]) -> list[Mount]:
        lower = [str(self._tree(parent.id)) for parent in parents]
        if record.kind == "view" and len(lower) <= 1:
            return [_bind(lower[0] if lower else str(self._tree(record.id)), "ro")]
        if not lower:
            return [_bind(str(self._tree(record.id)), "rw")]
        options = [f"lowerdir={':'.join(lower)}"]
        if record.kind == "active":
            options += [f"upperdir={self._tree(record.id)}", f"workdir={self.root / str(record.id) / 'work'}"]
            if record.labels.get(VOLATILE) == "true":
                options.append("volatile")
        else:
            options.append("ro")
        options += FEATURES
        if self.user_xattrs:
            options.append("userxattr")
        return [{"destination": "/", "type": "overlay", "source": "overlay", "options": options}]

    def _before_mount(self, record: Record) -> None:
        # The kernel leaves this mark in every volatile mount's work directory, and refuses the next mount while it
        # is there: after a power failure the contents may be incomplete. That was agreed to.
        if record.labels.get(VOLATILE) == "true":
            shutil.rmtree(self.root / str(record.id) / "work" / "work" / "incompat", ignore_errors=True)

    def _target(self, record: Record, parents: list[Record]) -> ApplyTarget:
        lower = tuple(str(self._tree(parent.id)) for parent in parents)
        # On an empty base there is nothing to delete; marks would show in the bind mount of a lone layer.
        return ApplyTarget(str(self._tree(record.id)), "overlay" if lower else "delete", lower, "")

    def _after_commit(self, record: Record) -> None:
        shutil.rmtree(self.root / str(record.id) / "work", ignore_errors=True)


def _bind(source: str, access: str) -> Mount:
    return {"destination": "/", "type": "bind", "source": source, "options": [access, "rbind"]}


def _inherit_root(parent: Path, upper: Path) -> None:
    """The merged root shows the upper directory's own attributes, so they start as the parent's."""
    status = os.stat(parent)
    os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(parent):
        if not name.startswith(("trusted.overlay.", "user.overlay.")):
            os.setxattr(upper, name, os.getxattr(parent, name))
    os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))
