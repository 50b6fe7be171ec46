"""Whether this process lives in a chroot(2): a root directory that is not its mount namespace's own."""

from __future__ import annotations

import os

from sampan.linux import process

ADVICE = (
    "this is a chroot, in which no container can be started (they begin at the mount namespace's own root): "
    "enter the directory with pivot_root instead, as systemd-nspawn does"
)


def in_chroot() -> bool:
    """Ask the kernel: joining a mount namespace, also one's own, leads to its root (setns(2)). A child does it, for it stays there.

    For a process without threads. Needs root; False when the kernel does not say.
    """
    here = os.stat("/")
    child = os.fork()
    if not child:
        os._exit(_compare(here))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 1


def _compare(here: os.stat_result) -> int:
    """1 when the namespace's root is another directory."""
    try:
        namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        process.setns(namespace)
        there = os.stat("/")
    except OSError:
        return 0
    return int((here.st_dev, here.st_ino) != (there.st_dev, there.st_ino))
