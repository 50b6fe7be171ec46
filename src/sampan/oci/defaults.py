"""The parts of an OCI runtime spec that Docker gives every container, as data.

The container service starts from these and adds what the user asked for. Every function returns fresh lists,
so a caller may change what it gets. The values are those of the newest Docker Engine; an advisory that is the
reason for a masked path is named beside it.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.oci.runtime import Device, DeviceCgroup, Mount, Namespace

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""`PATH` of a container whose image sets none."""

SHM_SIZE = 64 << 20
"""Bytes of /dev/shm unless `--shm-size` says otherwise."""

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""What root in an ordinary container has: bounding, permitted, effective. Inheritable and ambient are empty
(a non-empty inheritable set is CVE-2022-24769)."""

ALL_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""Every capability that Linux has; the position is its number (capability.h)."""


def available_capabilities() -> list[str]:
    """The capabilities this process may hand on: `ALL_CAPABILITIES` cut to its bounding set.

    `--privileged` and `--cap-add ALL` mean these; asking for another one is an error of the user.
    """
    bounding = 0
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("CapBnd:"):
                bounding = int(line.split()[1], 16)
    return [name for number, name in enumerate(ALL_CAPABILITIES) if bounding >> number & 1]


def masked_paths() -> list[str]:
    """Paths that an unprivileged container sees as an empty file or directory."""
    return list(_masked_paths())


@cache
def _masked_paths() -> tuple[str, ...]:
    """Asked for once: which CPUs are possible is settled when the kernel starts."""
    paths = [
        "/proc/acpi",  # CVE-2018-10892: the machine's Bluetooth, keyboard light…
        "/proc/asound",
        "/proc/interrupts",  # GHSA-6fw5-f8r9-fgfm: timing of keys pressed on the host
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",  # CVE-2017-16539: removing the host's disks
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",  # GHSA-jq35-85cj-fj4p: power side channel
        "/sys/firmware",
    ]
    for cpu in _possible_cpus():
        path = f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"  # as /proc/interrupts
        if os.path.exists(path):
            paths.append(path)
    return tuple(paths)


def readonly_paths() -> list[str]:
    """Paths that an unprivileged container cannot write to, though root owns them."""
    return ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def mounts(*, privileged: bool = False, shm_size: int = SHM_SIZE) -> list[Mount]:
    """The kernel file systems of a container, in the order of mounting.

    `privileged` leaves /sys and /sys/fs/cgroup writable. `shm_size` is in bytes.
    """
    access = [] if privileged else ["ro"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
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
        {
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", *access],
        },
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [*access, "nosuid", "noexec", "nodev"],
        },
        {
            "destination": "/dev/mqueue",
            "type": "mqueue",
            "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}"],
        },
    ]


def namespaces() -> list[Namespace]:
    """New namespaces of an ordinary container. The caller adds `cgroup` where its mode is private."""
    return [{"type": "mount"}, {"type": "network"}, {"type": "uts"}, {"type": "pid"}, {"type": "ipc"}]


def device_rules(*, privileged: bool = False) -> list[DeviceCgroup]:
    """Docker's device cgroup rules; later rules win. The runtime adds those of its own default devices."""
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[DeviceCgroup] = [{"allow": False, "access": "rwm"}]
    for major, minor in ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)):
        rules.append({"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"})
    rules.append({"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"})  # /dev/fuse
    return rules


_NOT_FOR_CONTAINERS = frozenset(
    {
        "pts",
        "shm",
        "fd",
        "mqueue",
        ".lxc",
        ".lxd-mounts",
        ".udev",
        "console",
        "tty",
        "null",
        "zero",
        "full",
        "random",
    }
    | {"urandom", "ptmx"}
)


def host_devices(root: str = "/dev") -> list[Device]:
    """All device nodes of the host, for `--privileged`; without those that the runtime makes anyway.

    Virtual consoles are left out (a container that opens one disturbs the host's), as are nodes that vanish
    meanwhile.
    """
    devices: list[Device] = []
    for directory, names, files in os.walk(root):
        if directory == root:
            names[:] = [name for name in names if name not in _NOT_FOR_CONTAINERS]
        for name in files:
            if directory == root and name in _NOT_FOR_CONTAINERS:
                continue
            device = device_at(os.path.join(directory, name))
            if device is not None and not (device["type"] == "c" and device.get("major") == 4):
                devices.append(device)
    devices.sort(key=lambda device: device["path"])
    return devices


def device_at(path: str, in_container: str | None = None) -> Device | None:
    """The host's device node at `path` as an OCI device named `in_container`; None when it is not one."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISBLK(status.st_mode):
        kind = "b"
    else:
        return None
    return {
        "path": in_container or path,
        "type": kind,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _possible_cpus() -> list[int]:
    """Numbers in the kernel's list format: `0-3,8`."""
    try:
        with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return []
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first:
            cpus.extend(range(int(first), int(last or first) + 1))
    return cpus
