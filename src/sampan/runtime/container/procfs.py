"""The genuine /proc, held by descriptor: what is written there arrives, whatever the image mounts over it.

CVE-2019-16884, CVE-2019-19921, CVE-2025-52881: an image, a volume or a racing container puts something else
where /proc/self/attr or /proc/sys should be; an LSM label then goes nowhere, or a sysctl's text into
/proc/sysrq-trigger. The stub therefore opens the *host's* /proc before it enters anything, checks what it is,
and reaches every file relative to that descriptor, crossing no mount and following no magic link. The host's
instance serves: namespaced sysctls are those of the writing process, and `self` is resolved per reader.
"""

from __future__ import annotations

import errno
import os

from sampan.linux.path import (
    PROC_SUPER_MAGIC,
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_XDEV,
    filesystem_type,
    openat2,
)

_PROC_ROOT_INODE = 1


def is_procfs(descriptor: int) -> bool:
    """Whether the file lies on a procfs."""
    return filesystem_type(descriptor) == PROC_SUPER_MAGIC


def is_procfs_root(descriptor: int) -> bool:
    """Whether it is the root directory of a procfs, not a directory in one bound there."""
    return is_procfs(descriptor) and os.fstat(descriptor).st_ino == _PROC_ROOT_INODE


class Proc:
    """The caller's /proc, checked and kept open (close-on-exec) until `close`."""

    def __init__(self) -> None:
        self.fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not is_procfs_root(self.fd):
            os.close(self.fd)
            raise PermissionError(errno.EPERM, "not the root of a procfs", "/proc")

    def open(self, path: str, flags: int) -> int:
        """Open a file beneath it, `self` meaning the caller. Mounts and magic links on the way are errors."""
        return openat2(self.fd, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS)

    def write(self, path: str, text: str) -> None:
        """Write `text` in one call. Raises OSError."""
        descriptor = self.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def exists(self, path: str) -> bool:
        try:
            os.close(self.open(path, os.O_PATH))
        except OSError:
            return False
        return True

    def path_of(self, descriptor: int) -> str:
        """Where the kernel sees a descriptor's file now: for comparison with another such text, and messages."""
        return os.readlink(f"self/fd/{descriptor}", dir_fd=self.fd)

    def link(self, descriptor: int) -> str:
        """A path to exactly the descriptor's file, for the few calls that take only paths.

        Usable by the calling process while its /proc is the host's, that is before pivot_root.
        """
        return f"/proc/self/fd/{descriptor}"

    def close(self) -> None:
        os.close(self.fd)
