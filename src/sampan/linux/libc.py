"""The C library, loaded once, and the door to system calls that it has no wrapper for.

Numbers from 424 on are the same on every architecture (Linux 5.1 unified the tables); older calls go through
the C library's own functions, except the few that glibc does not wrap (`OLD_NUMBERS`).
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False  # as a type checker sees it; importing `typing` itself costs a program 10 ms
if TYPE_CHECKING:
    from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

# Python may run nothing between a raw clone and PyOS_AfterFork_Child: PyDLL keeps the GIL across the call.
libc_holding_gil = ctypes.PyDLL(None, use_errno=True)
libc_holding_gil.syscall.restype = ctypes.c_long

MACHINE = os.uname().machine

OLD_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {"pivot_root": 155, "keyctl": 250, "seccomp": 317, "execveat": 322, "bpf": 321},
    "aarch64": {"pivot_root": 41, "keyctl": 219, "seccomp": 277, "execveat": 281, "bpf": 280},
    "riscv64": {"pivot_root": 41, "keyctl": 219, "seccomp": 277, "execveat": 281, "bpf": 280},
    "ppc64le": {"pivot_root": 203, "keyctl": 271, "seccomp": 358, "execveat": 362, "bpf": 361},
    "s390x": {"pivot_root": 217, "keyctl": 280, "seccomp": 348, "execveat": 354, "bpf": 351},
}


def syscall_number(name: str) -> int:
    """Number of a call that predates the unified table. Raises NotImplementedError on an unknown
    architecture.
    """
    try:
        return OLD_NUMBERS[MACHINE][name]
    except KeyError:
        raise NotImplementedError(f"system call {name} on {MACHINE}") from None


def failure(filename: str | bytes | None = None) -> OSError:
    """The OSError for the errno that the last call through `libc` left."""
    number = ctypes.get_errno()
    if filename is None:
        return OSError(number, os.strerror(number))
    return OSError(number, os.strerror(number), os.fsdecode(filename))


def checked(result: int, filename: str | bytes | None = None) -> int:
    """`result` unless it is -1, which becomes an OSError."""
    if result == -1:
        raise failure(filename)
    return result


_MAX_ARGUMENTS = 6


def _syscall_of(arity: int) -> Any:
    """The C library's syscall(2) for one number of arguments, each the width of a register.

    c_void_p takes integers of 64 bits (a bare Python integer would be passed as 32), bytes, None and byref: so
    callers wrap nothing, which halves the price of a call.
    """
    function: Any = libc["syscall"]  # a new function object each time
    function.restype = ctypes.c_long
    function.argtypes = (ctypes.c_long, *[ctypes.c_void_p] * arity)
    return function


_syscalls = tuple(_syscall_of(arity) for arity in range(_MAX_ARGUMENTS + 1))


def syscall(number: int, *arguments: Any, filename: str | bytes | None = None) -> int:
    """Raw system call. An argument is an integer, bytes (NUL-terminated for C), None, or a ctypes reference."""
    result = _syscalls[len(arguments)](number, *arguments)
    if result == -1:
        raise failure(filename)
    return int(result)
