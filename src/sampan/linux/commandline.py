"""What `ps` shows of this process: its command line and its environment.

The kernel reads both from where the process says that they are. They are laid into memory of their own here; the area that
the program was started with is too short for others, and its neighbour is in use.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from typing import TYPE_CHECKING

from sampan.linux.libc import checked, libc
from sampan.linux.process import PR_SET_MM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PR_SET_MM_MAP = 14
_NO_FILE = 0xFFFFFFFF
_MAP = struct.Struct("=11QQII")
"""struct prctl_mm_map: eleven addresses, the auxiliary vector's and its size (none), and a descriptor of the program's file."""
_BRK = 5 * 8
_FIELDS = (26, 27, 45, 46, 47)
_STACK = 28
"""Fields of /proc/PID/stat, counted from 1: begin and end of code and of data, begin of the heap; of the stack."""

_shown: list[mmap.mmap] = []
"""Kept for as long as the process lives."""


def show(stat: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Be shown with this command line. `stat` is the text of the process's own /proc/self/stat.

    Needs no privilege. Raises OSError where the kernel cannot do it (no CONFIG_CHECKPOINT_RESTORE).
    """
    said = b"".join(os.fsencode(each) + b"\0" for each in arguments)
    beside = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environment.items())
    area = mmap.mmap(-1, len(said) + len(beside), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area[:] = said + beside
    begin = ctypes.addressof(ctypes.c_char.from_buffer(area))
    between = begin + len(said)
    fields = ["", "", *stat.rpartition(")")[2].split()]
    addresses = [int(fields[number - 1]) for number in (*_FIELDS, _STACK)]
    brk = libc.sbrk
    brk.restype = ctypes.c_void_p
    wanted = ctypes.create_string_buffer(
        _MAP.pack(
            *addresses[:5], 0, addresses[5], begin, between, between, between + len(beside), 0, 0, _NO_FILE
        ),
        _MAP.size,
    )
    # The heap may have grown since the text was read; nothing may make it grow between this and the call.
    ctypes.c_uint64.from_buffer(wanted, _BRK).value = brk(0)
    checked(
        libc.prctl(
            PR_SET_MM, ctypes.c_ulong(_PR_SET_MM_MAP), wanted, ctypes.c_ulong(_MAP.size), ctypes.c_ulong(0)
        )
    )
    _shown.append(area)
