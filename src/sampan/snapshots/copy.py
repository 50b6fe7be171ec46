"""Snapshots as whole copies, for file systems that can't carry overlay: slow and large, but nothing can be missing.

`<id>/fs` holds the complete tree. Where the file system shares blocks between files (XFS, btrfs), copies cost
little room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.archive.copytree import copy_tree
from sampan.snapshots.directories import DirectorySnapshotter
from sampan.snapshots.interface import ApplyTarget

if TYPE_CHECKING:
    from pathlib import Path

    from sampan.oci.runtime import Mount
    from sampan.snapshots.records import Record


class CopySnapshotter(DirectorySnapshotter):
    """See the module and `sampan.snapshots.interface`."""

    name = "native"

    def _populate(self, directory: Path, parents: list[Record]) -> None:
        tree = directory / "fs"
        tree.mkdir(0o755)
        if parents:
            copy_tree(self._tree(parents[0].id), tree)

    def _mounts(self, record: Record, parents: list[Record]) -> list[Mount]:
        shown = parents[0].id if record.kind == "view" and parents else record.id
        access = "ro" if record.kind == "view" else "rw"
        return [
            {
                "destination": "/",
                "type": "bind",
                "source": str(self._tree(shown)),
                "options": [access, "rbind"],
            }
        ]

    def _target(self, record: Record, parents: list[Record]) -> ApplyTarget:
        compare = str(self._tree(parents[0].id)) if parents else ""
        return ApplyTarget(str(self._tree(record.id)), "delete", (), compare)

    def _before_mount(self, record: Record) -> None:
        """Nothing: a bind mount leaves no mark."""

    def _after_commit(self, record: Record) -> None:
        """Nothing: an active copy is made of the same as a committed one."""
