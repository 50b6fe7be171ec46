"""The first file system of the machine: busybox, a script, and the drivers that reach the disks.

Written as a cpio archive in the kernel's `newc` format (Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

DRIVERS = (
    "virtio/virtio_ring.ko",
    "virtio/virtio.ko",
    "virtio/virtio_pci_legacy_dev.ko",
    "virtio/virtio_pci_modern_dev.ko",
    "virtio/virtio_pci.ko",
    "block/virtio_blk.ko",
)
"""In the order of loading; the cloud kernel has ext4 built in."""


def write_initramfs(path: Path, scripts: Path, drivers: Path) -> None:
    """An archive with the scripts init.sh and stage2.sh, the host's static busybox, and, from a kernel's `drivers`
    directory, those that reach the disks.
    """
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    archive = Cpio()
    for directory in ("bin", "dev", "proc", "sys", "modules", "root"):
        archive.add(directory, stat.S_IFDIR | 0o755)
    archive.add("init", stat.S_IFREG | 0o755, (scripts / "init.sh").read_bytes())
    archive.add("stage2", stat.S_IFREG | 0o644, (scripts / "stage2.sh").read_bytes())
    archive.add("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    archive.add("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    for number, driver in enumerate(DRIVERS):
        name = f"modules/{number}-{Path(driver).name}"
        archive.add(name, stat.S_IFREG | 0o644, (drivers / driver).read_bytes())
    path.write_bytes(archive.finish())


class Cpio:
    """A newc archive in memory."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._inode = 0

    def add(self, name: str, mode: int, data: bytes = b"") -> None:
        """Append an entry; the data of a link is its target."""
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        self._data += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._pad()
        self._data += data
        self._pad()

    def finish(self) -> bytes:
        """The whole archive."""
        self._inode = -1
        self.add("TRAILER!!!", 0)
        return bytes(self._data)

    def _pad(self) -> None:
        self._data += b"\0" * (-len(self._data) % 4)
