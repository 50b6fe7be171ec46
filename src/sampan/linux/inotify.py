"""File change notification. inotify(7)."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

from sampan.linux.libc import checked, libc

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
"""The watch is gone, with its directory or because it was removed."""
IN_ONLYDIR = 0x1000000
IN_MASK_ADD = 0x20000000

_EVENT = struct.Struct("iIII")


class Event(NamedTuple):
    watch: int
    mask: int
    name: str


def open_queue() -> int:
    """A non-blocking, close-on-exec event queue."""
    return checked(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def add_watch(queue: int, path: str, mask: int) -> int:
    """Watch a path; the watch's number."""
    return checked(libc.inotify_add_watch(queue, os.fsencode(path), ctypes.c_uint32(mask)), path)


def remove_watch(queue: int, watch: int) -> None:
    """End a watch; one that is gone already is none to end."""
    libc.inotify_rm_watch(queue, watch)


def read_events(queue: int) -> list[Event]:
    """The events waiting now, possibly none."""
    try:
        data = os.read(queue, 64 * 1024)
    except BlockingIOError:
        return []
    events = []
    offset = 0
    while offset < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, offset)
        offset += _EVENT.size
        name = data[offset : offset + length].rstrip(b"\0")
        events.append(Event(watch, mask, os.fsdecode(name)))
        offset += length
    return events
