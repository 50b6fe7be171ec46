"""Reading and writing the control files of the cgroup file systems, with errors that name file and value."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from sampan.cgroups.interface import CgroupError

if TYPE_CHECKING:
    from collections.abc import Iterable


def read(path: str) -> str:
    """The whole text of a control file, without the final newline. Raises CgroupError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CgroupError(f"open {path}: {_reason(error)}", error.errno) from error
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    except OSError as error:
        raise CgroupError(f"read {path}: {_reason(error)}", error.errno) from error
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "replace").rstrip("\n")


def read_optional(path: str) -> str | None:
    """As `read`; None when the file or its cgroup is not there."""
    try:
        return read(path)
    except CgroupError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENOTSUP):
            return None
        raise


def read_int(path: str) -> int:
    """A number; `max` and everything beyond 64 bits is 2^64-1, as Docker prints "no limit"."""
    text = read(path)
    return 2**64 - 1 if text == "max" else int(text)


def read_table(path: str) -> dict[str, int]:
    """Lines of `key number`, such as memory.stat and cpu.stat; empty when the file is not there."""
    table: dict[str, int] = {}
    for line in (read_optional(path) or "").splitlines():
        key, _, value = line.partition(" ")
        if value.lstrip("-").isdigit():
            table[key] = int(value)
    return table


def write(path: str, value: str | int) -> None:
    """Write `value` with one write(2), as the kernel's parsers demand. Raises CgroupError."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(value).encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise CgroupError(
            f'failed to write "{value}": write {path}: {_reason(error)}', error.errno
        ) from error


def write_each(path: str, values: Iterable[str]) -> None:
    """`write` for several values of one file, which is opened once."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CgroupError(f"open {path}: {_reason(error)}", error.errno) from error
    try:
        for value in values:
            try:
                os.write(fd, value.encode())
            except OSError as error:
                raise CgroupError(
                    f'failed to write "{value}": write {path}: {_reason(error)}', error.errno
                ) from error
    finally:
        os.close(fd)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
