"""Architectures as seccomp sees them, and their system call numbers.

The numbers are our own table (`syscalls.txt`): the libseccomp of a distribution knows the calls of the kernel that
was new when it was packaged, and a profile's newer names would silently be missing from its filters.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from sampan.errors import NotSupported

X32_BIT = 0x40000000
"""Marks an x32 call in a number on x86_64, whose audit architecture x32 shares."""

_SYSCALLS = os.path.join(os.path.dirname(__file__), "syscalls.txt")
_table: dict[str, dict[str, int]] = {}


class Architecture(NamedTuple):
    """One system call table."""

    name: str
    """Its column in the table."""
    oci_name: str
    go_name: str
    """What profiles call it in `includes.arches`."""
    audit: int
    """AUDIT_ARCH_*, what `seccomp_data.arch` holds."""
    big_endian: bool = False


ARCHITECTURES = (
    Architecture("x86_64", "SCMP_ARCH_X86_64", "amd64", 0xC000003E),
    Architecture("x86", "SCMP_ARCH_X86", "x86", 0x40000003),
    Architecture("x32", "SCMP_ARCH_X32", "x32", 0xC000003E),
    Architecture("aarch64", "SCMP_ARCH_AARCH64", "arm64", 0xC00000B7),
    Architecture("arm", "SCMP_ARCH_ARM", "arm", 0x40000028),
    Architecture("s390x", "SCMP_ARCH_S390X", "s390x", 0x80000016, big_endian=True),
    Architecture("s390", "SCMP_ARCH_S390", "s390", 0x00000016, big_endian=True),
    Architecture("ppc64le", "SCMP_ARCH_PPC64LE", "ppc64le", 0xC0000015),
    Architecture("riscv64", "SCMP_ARCH_RISCV64", "riscv64", 0xC00000F3),
    Architecture("loongarch64", "SCMP_ARCH_LOONGARCH64", "loong64", 0xC0000102),
)
BY_OCI_NAME = {architecture.oci_name: architecture for architecture in ARCHITECTURES}
BY_MACHINE = {architecture.name: architecture for architecture in ARCHITECTURES} | {
    "i686": ARCHITECTURES[1],
    "armv7l": ARCHITECTURES[4],
}


def host_architecture() -> str:
    """The machine's word for itself: `uname -m`."""
    return os.uname().machine


def architecture_of(machine: str) -> Architecture:
    """By `uname -m`'s word. Raises NotSupported."""
    try:
        return BY_MACHINE[machine]
    except KeyError:
        raise NotSupported(
            f"seccomp: no system call table for {machine}: use --security-opt seccomp=unconfined"
        ) from None


def syscall_numbers(architecture: str) -> dict[str, int]:
    """Numbers by name; x32's without the marker bit. The table is read once."""
    if not _table:
        with open(_SYSCALLS, encoding="ascii") as file:
            lines = [line.split() for line in file if not line.startswith("#")]
        columns = lines[0][1:]
        for column in columns:
            _table[column] = {}
        for name, *numbers in lines[1:]:
            for column, number in zip(columns, numbers, strict=True):
                if number != "-":
                    _table[column][name] = int(number)
    return _table[architecture]


SOCKETCALL = {
    "socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5, "getsockname": 6, "getpeername": 7,
    "socketpair": 8, "send": 9, "recv": 10, "sendto": 11, "recvfrom": 12, "shutdown": 13, "setsockopt": 14,
    "getsockopt": 15, "sendmsg": 16, "recvmsg": 17, "accept4": 18, "recvmmsg": 19, "sendmmsg": 20,
}  # fmt: skip
"""First argument of socketcall(2), through which 32-bit programs make these calls (linux/net.h)."""

IPC = {
    "semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
    "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
}  # fmt: skip
"""First argument of ipc(2) (linux/ipc.h)."""
