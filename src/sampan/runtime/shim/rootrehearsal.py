"""A root file system built in the zygote: the code that every stub runs is then specialised before any stub is cloned.

A stub lives for milliseconds, and is a copy of a process that has never made a container itself: without this it would run the
interpreter's slowest code, and write to (that is, copy) the pages of each function that it calls eight times. Everything
happens in a mount namespace that is left again at once, and goes with what was mounted in it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.linux import mount as mnt
from sampan.linux import process
from sampan.runtime.container import devices, program, users
from sampan.runtime.container.procfs import Proc
from sampan.runtime.container.rootfs import Root

if TYPE_CHECKING:
    from sampan.oci.runtime import Mount

_ROUNDS = 3
"""What a container needs often is called more than eight times then."""
_LIMITS = ["nosuid", "noexec", "nodev"]
_MOUNTS: list[Mount] = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": _LIMITS},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*_LIMITS, "ro"]},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": _LIMITS},
    {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": [*_LIMITS, "mode=1777", "size=64k"],
    },
]
_BINDS: list[Mount] = [
    {"destination": f"/etc/{name}", "type": "bind", "source": "", "options": ["rbind", "rprivate"]}
    for name in ("resolv.conf", "hostname", "hosts")
]
_MASKED = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/sys/firmware",
]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def rehearse(place: str) -> None:
    """Build roots beneath `place`, a directory of our own. Raises OSError, LaunchError where that is not allowed.

    The caller has no other thread. Should there be no way back to its mounts, it ends.
    """
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    root = f"{place}/root"
    os.makedirs(f"{root}/bin", exist_ok=True)
    with open(f"{root}/bin/program", "wb") as file:
        os.fchmod(file.fileno(), 0o755)
    mask = os.umask(0o022)
    try:
        process.unshare(process.CLONE_NEWNS)
        try:
            mnt.mount(None, "/", None, mnt.MS_REC | mnt.MS_SLAVE)
            for _ in range(_ROUNDS):
                _build(root)
        finally:
            try:
                process.setns(home, process.CLONE_NEWNS)
            except OSError:
                os._exit(70)
    finally:
        os.umask(mask)
        os.close(home)


def _build(directory: str) -> None:
    proc = Proc()
    root = Root(proc, [("/", mnt.clone_mount(directory))])
    for entry in _MOUNTS:
        root.mount(entry, None, [])
    devices.make_devices(root.fd, [], {})
    devices.make_links(root.fd)
    for entry in _BINDS:
        tree = mnt.clone_mount(f"{directory}/bin/program")
        root.mount(entry, tree, [])
        os.close(tree)
    users.resolve(root.fd, "0:0", [])
    program.find("program", {"PATH": f"/nowhere:/none:{directory}/bin"})
    root.finish(_MASKED, _READ_ONLY)
    root.close()
    proc.close()
