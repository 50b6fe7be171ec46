"""JSON messages with descriptors over AF_UNIX SOCK_SEQPACKET sockets.

One message is one packet: a JSON object, and up to 250 descriptors beside it. A message larger than a packet
may be (a spec with a long argument list) travels in a memfd, which receivers unwrap without noticing.

Descriptors are received close-on-exec by the kernel, atomically (`socket.recv_fds` drops its flags: a process
forked in between would inherit them), and truncation is an error, never a silently lost descriptor.
"""

from __future__ import annotations

import array
import json
import os
import socket
from typing import Any

MAX_DESCRIPTORS = 250
"""Of one message; the kernel's limit SCM_MAX_FD is 253."""
_INLINE = 96 * 1024
"""Larger payloads go through a memfd: a packet must fit the peer's receive buffer, 208 KiB by default."""
_ANCILLARY_SPACE = socket.CMSG_SPACE((MAX_DESCRIPTORS + 3) * 4)
_IN_MEMFD = b"\x00"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class Disconnected(ConnectionError):
    """The peer closed the connection."""


def send(
    sock: socket.socket,
    message: dict[str, Any],
    descriptors: list[int] | tuple[int, ...] = (),
    flags: int = 0,
) -> None:
    """Send one message. The descriptors stay open here. Raises BlockingIOError on a full non-blocking
    socket.
    """
    # surrogateescape: paths, arguments and environment of containers may hold any bytes.
    payload = _encode(message).encode("utf-8", "surrogateescape")
    if len(payload) <= _INLINE:
        _send_packet(sock, payload, list(descriptors), flags)
        return
    memfd = _memory_with(payload)
    try:
        _send_packet(sock, _IN_MEMFD, [memfd, *descriptors], flags)
    finally:
        os.close(memfd)


def in_memory(message: dict[str, Any]) -> int:
    """A descriptor of memory that holds the message: to be passed through a process that need not read it."""
    return _memory_with(_encode(message).encode("utf-8", "surrogateescape"))


def from_memory(descriptor: int) -> dict[str, Any]:
    """The message of `in_memory`. The descriptor stays open."""
    message: dict[str, Any] = json.loads(_read_all(descriptor).decode("utf-8", "surrogateescape"))
    return message


def _memory_with(payload: bytes) -> int:
    memfd = os.memfd_create("sampan-message", os.MFD_CLOEXEC)
    try:
        view = memoryview(payload)
        while view:
            view = view[os.write(memfd, view) :]
    except BaseException:
        os.close(memfd)
        raise
    return memfd


def _send_packet(sock: socket.socket, payload: bytes, descriptors: list[int], flags: int) -> None:
    if len(descriptors) > MAX_DESCRIPTORS:
        raise ValueError(f"{len(descriptors)} descriptors in one message, at most {MAX_DESCRIPTORS}")
    ancillary = []
    if descriptors:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    sock.sendmsg([payload], ancillary, flags | socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message and its descriptors, which the caller owns.

    Raises Disconnected at the end, BlockingIOError on an empty non-blocking socket.
    """
    payload, ancillary, flags, _ = sock.recvmsg(_INLINE + 1, _ANCILLARY_SPACE, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    received = list(descriptors)
    try:
        if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
            raise OSError("message or its descriptors were truncated")
        if not payload:
            raise Disconnected("the peer closed the connection")
        if payload == _IN_MEMFD and received:
            memfd = received.pop(0)
            try:
                payload = _read_all(memfd)
            finally:
                os.close(memfd)
        return json.loads(payload.decode("utf-8", "surrogateescape")), received
    except BaseException:
        for descriptor in received:
            os.close(descriptor)
        raise


def _read_all(memfd: int) -> bytes:
    size = os.fstat(memfd).st_size
    parts = []
    offset = 0
    while offset < size:
        part = os.pread(memfd, size - offset, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def pair(blocking: bool = True) -> tuple[socket.socket, socket.socket]:
    """A connected pair of SEQPACKET sockets, close-on-exec."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(blocking)
    theirs.setblocking(blocking)
    return ours, theirs
