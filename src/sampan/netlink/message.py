"""The wire format of netlink: headers, attributes, and what comes back.

Everything is in the machine's byte order and padded to four bytes. Source: netlink(7), rtnetlink(7) and the kernel's
`include/uapi/linux/netlink.h`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_DUMP = 0x300

NLMSG_ERROR = 2
NLMSG_DONE = 3

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF


class Request(NamedTuple):
    """One message to the kernel, and what it is for: the words that an error carries."""

    kind: int
    """RTM_… or a netfilter message type."""
    flags: int
    """Beside NLM_F_REQUEST and NLM_F_ACK, which the socket adds."""
    payload: bytes
    purpose: str

    def encode(self, sequence: int, acknowledged: bool = True) -> bytes:
        """The message as it is sent, padded."""
        flags = self.flags | NLM_F_REQUEST | (NLM_F_ACK if acknowledged else 0)
        length = _HEADER.size + len(self.payload)
        return _HEADER.pack(length, self.kind, flags, sequence, 0) + self.payload + bytes(-length % 4)


class Reply(NamedTuple):
    """One message from the kernel."""

    kind: int
    flags: int
    sequence: int
    payload: bytes


def replies(data: bytes) -> Iterator[Reply]:
    """Split what one read returned. A message that claims more than there is ends the walk with `ValueError`."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            raise ValueError(f"netlink message of {length} bytes in {len(data) - offset}")
        yield Reply(kind, flags, sequence, data[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its header and padding."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A zero-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    """An unsigned byte."""
    return attribute(kind, value.to_bytes(1, "little"))


def u32(kind: int, value: int) -> bytes:
    """An unsigned 32-bit number."""
    return attribute(kind, struct.pack("=I", value))


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type, flags of the type removed; of a repeated one the last. Broken lengths raise `ValueError`."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            raise ValueError(f"netlink attribute {kind} of {length} bytes in {len(data) - offset}")
        found[kind & _TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found
