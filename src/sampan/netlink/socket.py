"""A netlink socket: batches of requests out, acknowledgements and dumps in.

Synchronous on purpose: the kernel answers within the system call, and what it costs is the RTNL lock. Callers on an event loop use
`sampan.netlink.thread`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence

from sampan.errors import SystemFailure
from sampan.netlink.message import NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, Reply, Request, attributes, replies

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

_SOL_NETLINK = 270
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_BUFFER = 1 << 18


class NetlinkError(SystemFailure):
    """The kernel refused a request; `errno` says how, the message says what and, where the kernel tells, why."""

    def __init__(self, number: int, purpose: str, detail: str = "") -> None:
        super().__init__(f"{purpose}: {os.strerror(number)}{f' ({detail})' if detail else ''}")
        self.errno = number


class NetlinkSocket:
    """One conversation with the kernel, about the network namespace in which the socket was made. For one thread at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sequence = 0
        sock.setblocking(True)
        for option in (_NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            try:
                sock.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:
                pass  # a kernel before 4.20: errors carry no words, dumps are filtered here

    @classmethod
    def open(cls, family: int = NETLINK_ROUTE) -> NetlinkSocket:
        """A socket in the calling thread's network namespace."""
        return cls(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family))

    @classmethod
    def adopt(cls, descriptor: int) -> NetlinkSocket:
        """A socket that somebody made inside a namespace; the descriptor is duplicated and stays the caller's."""
        return cls(socket.socket(fileno=os.dup(descriptor)))

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def execute(self, requests: Sequence[Request], *, tolerate: Sequence[int] = ()) -> None:
        """Send all requests in one system call and wait for every acknowledgement.

        The kernel carries out each, also after one that failed. Raises `NetlinkError` for the first that failed with an errno that
        is not in `tolerate`.
        """
        if not requests:
            return
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(b"".join(request.encode(first + index) for index, request in enumerate(requests)))
        waiting = len(requests)
        failure: NetlinkError | None = None
        while waiting:
            for reply in self._receive():
                index = reply.sequence - first
                if reply.kind != NLMSG_ERROR or not 0 <= index < len(requests):
                    continue  # left over from a request that was given up
                waiting -= 1
                error = _error(reply, requests[index].purpose)
                if error is not None and failure is None and error.errno not in tolerate:
                    failure = error
        if failure is not None:
            raise failure

    def get(self, request: Request) -> bytes | None:
        """The payload that answers a request for one object; None when there is no such object."""
        self._sequence += 1
        self._socket.send(request.encode(self._sequence))
        answer: bytes | None = None
        while True:
            for reply in self._receive():
                if reply.sequence != self._sequence:
                    continue
                if reply.kind != NLMSG_ERROR:
                    answer = reply.payload
                    continue
                error = _error(reply, request.purpose)
                if error is None:
                    return answer
                if error.errno in (errno.ENODEV, errno.ENOENT, errno.ESRCH):
                    return None
                raise error

    def dump(self, request: Request) -> list[bytes]:
        """The payloads of all objects of a kind. A dump that a change interrupted is as good as any: it is one moment's picture."""
        self._sequence += 1
        request = request._replace(flags=request.flags | NLM_F_DUMP)
        self._socket.send(request.encode(self._sequence, acknowledged=False))
        found: list[bytes] = []
        while True:
            for reply in self._receive():
                if reply.sequence != self._sequence:
                    continue
                if reply.kind == NLMSG_DONE:
                    return found
                if reply.kind == NLMSG_ERROR:
                    error = _error(reply, request.purpose)
                    if error is not None:
                        raise error
                    return found
                found.append(reply.payload)

    def _receive(self) -> list[Reply]:
        while True:
            try:
                return list(replies(self._socket.recv(_BUFFER)))
            except InterruptedError:
                continue


def _error(reply: Reply, purpose: str) -> NetlinkError | None:
    """None for an acknowledgement. The kernel's own words (extended ack) follow the echoed request."""
    (number,) = struct.unpack_from("=i", reply.payload)
    if number == 0:
        return None
    detail = ""
    if reply.flags & _NLM_F_ACK_TLVS:
        (echoed,) = struct.unpack_from("=I", reply.payload, 4)
        start = 4 + (16 if reply.flags & _NLM_F_CAPPED else (echoed + 3) & ~3)
        words = attributes(reply.payload[start:]).get(_NLMSGERR_ATTR_MSG, b"")
        detail = words.rstrip(b"\0").decode(errors="replace")
    return NetlinkError(-number, purpose, detail)
