"""Python's own binary, out of the container's reach.

CVE-2019-5736: an image whose program is `#!/proc/self/exe` makes the runtime execute *itself* inside the
container. The container then owns a process whose /proc/PID/exe is the host's interpreter, opens it for
writing once nobody executes it, and the next command on the host is the attacker's. Against that, a process
that will enter containers runs from a detached, read-only bind mount of the interpreter: the same file and page
cache, but opening it for writing through that /proc/PID/exe gives EROFS, and nobody in a container can
remount what is in no mount namespace. runc copies itself to a memfd for the same reason, at 10 MB each.
"""

from __future__ import annotations

import os
import sys

from sampan.linux import mount as mnt

_EXECUTABLE = "/proc/self/exe"


def is_sealed() -> bool:
    """Whether this process's binary lies on a read-only mount."""
    descriptor = os.open(_EXECUTABLE, os.O_PATH | os.O_CLOEXEC)
    try:
        return bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
    finally:
        os.close(descriptor)


def open_sealed() -> int:
    """A descriptor of the interpreter on a read-only detached mount, to be executed as /proc/self/fd/N.

    Raises OSError.
    """
    descriptor = mnt.clone_mount(os.path.realpath(_EXECUTABLE))
    mnt.mount_setattr(descriptor, set_attributes=mnt.MOUNT_ATTR_RDONLY, propagation=mnt.MS_PRIVATE)
    return descriptor


def ensure_sealed(arguments: list[str] | None = None) -> None:
    """Execute this very command again from a sealed interpreter, unless it runs from one already.

    `arguments`: the interpreter's own, program name first; default, those it was started with. Call it before
    anything has happened that a fresh start would lose.
    """
    if is_sealed():
        return
    descriptor = open_sealed()
    os.execv(f"/proc/self/fd/{descriptor}", arguments or sys.orig_argv)
