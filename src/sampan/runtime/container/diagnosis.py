"""Why a program that exists could not be executed: what the error number alone does not say.

Runs in the container, as its user, after execve(2) has failed; it reads the file's first bytes and nothing else.
"""

from __future__ import annotations

import errno
import os

_HEAD = 4096
_PT_INTERP = 3
# ELF header's e_machine (elf.h) → the architecture in the words of image platforms.
_MACHINES = {
    3: "386",
    8: "mips",
    20: "ppc",
    21: "ppc64le",
    22: "s390x",
    40: "arm",
    62: "amd64",
    183: "arm64",
    243: "riscv64",
    258: "loong64",
}
_OWN = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "loongarch64": "loong64"}
_FOREIGN = {
    b"MZ": "a Windows program",
    b"\xcf\xfa\xed\xfe": "a macOS program",
    b"\xca\xfe\xba\xbe": "a macOS program or a Java class",
    b"\x1f\x8b": "a gzip file",
    b"PK": "a zip file",
}


def detail(path: str, error: OSError) -> str:
    """A few words in parentheses, or nothing when there is no more to say."""
    if error.errno not in (errno.ENOENT, errno.ENOEXEC, errno.EACCES):
        return ""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return ""
    found = _missing(head) if error.errno == errno.ENOENT else _format(head)
    if error.errno == errno.EACCES:
        found = _forbidden(head)
    return f" ({found})" if found else ""


def _missing(head: bytes) -> str:
    """The file is there: something that it names is not."""
    if head.startswith(b"#!"):
        interpreter = _interpreter(head)
        if interpreter.endswith("\r"):
            return (
                f'its first line ends with a carriage return: "{interpreter[:-1]}\\r" is not in the image,'
                " save the script with Unix line ends"
            )
        return f'its interpreter "{interpreter}" is not in the image'
    if head.startswith(b"\x7fELF"):
        loader = _loader(head)
        return (
            f'its dynamic loader "{loader}" is not in the image'
            if loader
            else "its dynamic loader is not in the image"
        )
    return ""


def _format(head: bytes) -> str:
    machine = os.uname().machine
    own = _OWN.get(machine, machine)
    if head.startswith(b"\x7fELF"):
        built = _machine(head)
        return (
            f"it is built for linux/{built}, this machine runs linux/{own}" if built not in ("", own) else ""
        )
    if not head:
        return "the file is empty"
    for magic, kind in _FOREIGN.items():
        if head.startswith(magic):
            return f"it is {kind}, this machine runs linux/{own}"
    if head.startswith(b"\xef\xbb\xbf#!"):
        return "a byte order mark stands before its #!"
    if b"\0" not in head:
        return "it is a text without #! and an interpreter in its first line"
    return ""


def _forbidden(head: bytes) -> str:
    """The file itself was found executable before: its interpreter is not, or the mount forbids it."""
    if head.startswith(b"#!"):
        return f'its interpreter "{_interpreter(head)}" may not be executed'
    return "perhaps it is on a mount with noexec"


def _interpreter(head: bytes) -> str:
    words = head[2:].split(b"\n", 1)[0].strip(b" \t").split(None if b"\r" not in head[:256] else b" ", 1)
    return os.fsdecode(words[0]) if words else ""


def _machine(head: bytes) -> str:
    if len(head) < 20:
        return ""
    order = "big" if head[5] == 2 else "little"
    return _MACHINES.get(int.from_bytes(head[18:20], order), "another processor")  # type: ignore[arg-type]


def _loader(head: bytes) -> str:
    """The PT_INTERP segment's text, for 64-bit little-endian programs (elf(5))."""
    if len(head) < 64 or head[4] != 2 or head[5] != 1:
        return ""
    begin, size = int.from_bytes(head[32:40], "little"), int.from_bytes(head[54:56], "little")
    for number in range(int.from_bytes(head[56:58], "little")):
        entry = head[begin + number * size : begin + (number + 1) * size]
        if len(entry) >= 56 and int.from_bytes(entry[:4], "little") == _PT_INTERP:
            offset, length = (int.from_bytes(entry[at : at + 8], "little") for at in (8, 32))
            return os.fsdecode(head[offset : offset + length].rstrip(b"\0"))
    return ""
