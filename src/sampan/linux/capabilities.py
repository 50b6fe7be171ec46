"""Capability names and a process's five sets. capabilities(7)."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from sampan.linux.libc import checked, libc
from sampan.linux.process import PR_CAP_AMBIENT, PR_CAPBSET_DROP, PR_CAPBSET_READ, prctl

NAMES: tuple[str, ...] = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""Position is the capability's number."""

NUMBERS: dict[str, int] = {name: number for number, name in enumerate(NAMES)}

_VERSION_3 = 0x20080522
_AMBIENT_RAISE = 2
_AMBIENT_CLEAR_ALL = 4


class Sets(NamedTuple):
    """Bit masks; bit n is capability number n."""

    effective: int
    permitted: int
    inheritable: int


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


def mask(names: list[str]) -> int:
    """Bits of the named capabilities. Raises KeyError for an unknown name."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def names(bits: int) -> list[str]:
    """Names of the capabilities in a mask, ascending by number."""
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


def last_capability() -> int:
    """The highest capability number the running kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        return int(file.read())


def capget() -> Sets:
    """This thread's sets."""
    header = _Header(_VERSION_3, 0)
    data = (_Data * 2)()
    checked(libc.capget(ctypes.byref(header), data))
    low, high = data
    return Sets(
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def capset(sets: Sets) -> None:
    """Replace this thread's sets. Raises PermissionError when permitted would grow."""
    header = _Header(_VERSION_3, 0)
    data = (_Data * 2)(
        *[_Data(*[bits >> shift & 0xFFFFFFFF for bits in sets]) for shift in (0, 32)],
    )
    checked(libc.capset(ctypes.byref(header), data))


def bounding_set() -> int:
    """This thread's bounding set."""
    bits = 0
    for number in range(last_capability() + 1):
        bits |= prctl(PR_CAPBSET_READ, number) << number
    return bits


def limit_bounding_set(keep: int, last: int) -> None:
    """Drop every capability up to number `last` that is not in `keep` from the bounding set, irrevocably."""
    for number in range(last + 1):
        if not keep >> number & 1:
            prctl(PR_CAPBSET_DROP, number)


def set_ambient(bits: int) -> None:
    """Make the ambient set exactly `bits`, which must be permitted and inheritable."""
    prctl(PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    for number in range(bits.bit_length()):
        if bits >> number & 1:
            prctl(PR_CAP_AMBIENT, _AMBIENT_RAISE, number)
