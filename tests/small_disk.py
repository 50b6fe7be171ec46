"""A small file system that a test may fill to the last byte."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SmallDisk:
    """Mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leave no block free."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1 << 9):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def fill_names(self) -> None:
        """Leave no inode free."""
        names = self.path / "names"
        names.mkdir()
        try:
            for number in range(1 << 20):
                (names / str(number)).touch()
        except OSError:
            return

    def free(self) -> None:
        """Undo the above."""
        self._filler.unlink(missing_ok=True)
        subprocess.run(["rm", "-rf", self.path / "names"], check=True)


@contextmanager
def small_disk(folder: Path, size: str = "64M", kind: str = "ext4") -> Iterator[SmallDisk]:
    """In `folder`, of a size and kind that mkfs(8) takes, or a tmpfs. Whatever is on it goes with it."""
    place = folder / "disk"
    place.mkdir()
    if kind == "tmpfs":
        options = f"size={size},nr_inodes=2k"
        subprocess.run(["mount", "-t", kind, "-o", options, "none", place], check=True)
    else:
        image = folder / "disk.img"
        subprocess.run(["truncate", "-s", size, image], check=True)
        subprocess.run([f"mkfs.{kind}", "-q", "-m", "0", "-N", "4096", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
    disk = SmallDisk(place)
    try:
        yield disk
    finally:
        disk.free()
        subprocess.run(["umount", place], check=True)
