"""The x_tables of old (`iptables-legacy`), looked at without a program: has somebody changed what is forwarded?

linux/netfilter_ipv4/ip_tables.h: IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES, on a raw socket. Reading them costs microseconds, and
nothing at all where nobody uses these tables: even asking would load the kernel's module.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from sampan.linux.libc import libc

_GET_INFO, _GET_ENTRIES = 64, 65
_INFO_SIZE = 84
_FORWARD = 2
"""NF_INET_FORWARD, among the hooks of `struct ipt_getinfo`."""
_ENTRIES_HEAD = 40
_TARGET_HEAD = 32
_MOST = 1 << 20
"""Bytes of a table that is read for its policy; of a larger one only the size is looked at."""


class _Family(NamedTuple):
    names: Path
    family: int
    level: int
    entry: int
    """Size of `struct ipt_entry` and `struct ip6t_entry`."""


_FAMILIES = (
    _Family(Path("/proc/net/ip_tables_names"), socket.AF_INET, socket.IPPROTO_IP, 112),
    _Family(Path("/proc/net/ip6_tables_names"), socket.AF_INET6, socket.IPPROTO_IPV6, 168),
)


def signature() -> tuple[bytes, ...]:
    """Something that differs after rules were added or removed, and after FORWARD got another policy."""
    return tuple(_signature(family) for family in _FAMILIES)


def _signature(family: _Family) -> bytes:
    try:
        if "filter" not in family.names.read_text().split():
            return b""
        with socket.socket(family.family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as raw:
            info = _ask(raw, family, _GET_INFO, b"filter".ljust(_INFO_SIZE, b"\0"))
            (size,) = struct.unpack_from("=I", info, _INFO_SIZE - 4)
            if size > _MOST:
                return info
            head = b"filter".ljust(32, b"\0") + struct.pack("=I", size)
            entries = _ask(raw, family, _GET_ENTRIES, head.ljust(_ENTRIES_HEAD + size, b"\0"))
    except OSError:
        return (
            b""  # not our network namespace's, or changed between the two questions: the next look will tell
        )
    (policy,) = struct.unpack_from("=I", info, 32 + 4 + 20 + 4 * _FORWARD)
    place = _ENTRIES_HEAD + policy + family.entry + _TARGET_HEAD
    return info + entries[place : place + 4]


def _ask(raw: socket.socket, family: _Family, option: int, question: bytes) -> bytes:
    """getsockopt(2) with a question in the buffer, which Python's own has no room for."""
    buffer = ctypes.create_string_buffer(question, len(question))
    length = ctypes.c_uint32(len(question))
    if libc.getsockopt(raw.fileno(), family.level, option, buffer, ctypes.byref(length)) != 0:
        raise OSError(ctypes.get_errno(), "getsockopt")
    return buffer.raw
