"""Emulators that the kernel starts by itself for programs of other processors: its table `binfmt_misc`.

An entry says by which bytes such a program begins; what those bytes are in an ELF header tells the processor, whatever the entry is
called. Source: the kernel's admin-guide/binfmt-misc.rst.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from sampan.linux.mount import MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, new_filesystem

_MOUNTED = "/proc/sys/fs/binfmt_misc"
_CONTROL = ("register", "status")
_LARGEST = 4096

_ARCHITECTURES = {
    (2, 1, 62): "amd64",
    (2, 1, 183): "arm64",
    (1, 1, 40): "arm",
    (1, 1, 3): "386",
    (2, 1, 258): "loong64",
    (2, 2, 8): "mips64",
    (2, 1, 8): "mips64le",
    (2, 2, 21): "ppc64",
    (2, 1, 21): "ppc64le",
    (2, 1, 243): "riscv64",
    (2, 2, 22): "s390x",
}
"""By class (32 or 64 bits), byte order and machine of an ELF header (elf.h)."""

_ENTRIES = {
    "amd64": "qemu-x86_64",
    "arm64": "qemu-aarch64",
    "386": "qemu-i386",
    "loong64": "qemu-loongarch64",
    "mips64le": "qemu-mips64el",
}


class Emulator(NamedTuple):
    """An entry that is switched on."""

    name: str
    architecture: str
    """As images call it: `arm64`."""
    interpreter: str
    everywhere: bool
    """Whether the kernel holds the interpreter open (flag `F`); else it is looked for in each container's own files."""


def emulators() -> list[Emulator] | None:
    """Those of this machine; None when it cannot be known. Blocks."""
    try:
        directory = _open_table()
        try:
            return _read_table(directory)
        finally:
            os.close(directory)
    except OSError:
        return None


def _open_table() -> int:
    """The table's directory: where it is mounted, or by a mount that nobody else sees."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    directory = os.open(_MOUNTED, flags)
    if "status" in os.listdir(directory):
        return directory
    os.close(directory)
    mount = new_filesystem("binfmt_misc", {}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
    try:
        return os.open(".", flags, dir_fd=mount)
    finally:
        os.close(mount)


def entry_name(architecture: str) -> str:
    """What the entry for a processor is usually called."""
    return _ENTRIES.get(architecture, f"qemu-{architecture}")


def architecture_of(header: bytes) -> str | None:
    """The processor that an ELF program is for, as images call it; None for anything else."""
    if len(header) < 20 or not header.startswith(b"\x7fELF") or header[5] not in (1, 2):
        return None
    machine = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
    return _ARCHITECTURES.get((header[4], header[5], machine))


def parse_entry(name: str, text: str) -> Emulator | None:
    """One file of the table; None for what is switched off or is no emulator of a processor."""
    lines = text.splitlines()
    fields = dict(line.partition(" ")[::2] for line in lines[1:])
    if not lines or lines[0] != "enabled" or fields.get("offset", "0") != "0":
        return None
    try:
        magic = bytes.fromhex(fields.get("magic", ""))
    except ValueError:
        return None
    architecture = architecture_of(magic)
    if architecture is None:
        return None
    return Emulator(name, architecture, fields.get("interpreter", ""), "F" in fields.get("flags:", ""))


def _read_table(directory: int) -> list[Emulator]:
    if not _read(directory, "status").startswith("enabled"):
        return []
    names = sorted(set(os.listdir(directory)) - set(_CONTROL))
    found = [parse_entry(name, _read(directory, name)) for name in names]
    return [each for each in found if each is not None]


def _read(directory: int, name: str) -> str:
    file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(file, _LARGEST).decode(errors="replace")
    finally:
        os.close(file)
