"""The messages between an engine and a shim. Versioned, and only ever added to: shims outlive upgrades.

SEQPACKET packets of JSON (`sampan.linux.sockets`). Each request has an `id` and a `call`; each gets one reply with the
same `id`: the result's fields, or `error` (`{"kind", "message"}`). Unknown fields are ignored, an unknown call is the error
kind `unknown-call`, by which an engine recognises a shim older than itself.

=============  =============================================  ==================================================
call           arguments                                      reply
=============  =============================================  ==================================================
hello                                                         version, container, pid, state, init_pid, init_start_time, cgroup
launch         launch (ContainerLaunch)                       as hello
sandbox                                                       3 descriptors: netns, NETLINK_ROUTE, NETLINK_NETFILTER
start                                                         {}
wait           exec_id?                                       code, at_ns, oom_killed, reason — once it has ended
kill           signal, all?, exec_id?                         {}
resize         rows, columns, exec_id?                        {}
attach         stdin, stdout, stderr + a stream socket        {}
prepare_exec                                                  {}: a process for the next exec is made ready
exec           launch (ExecLaunch), attach? + stream socket?  pid
probe          probe (HealthProbe), process                   code, output (latin-1), timed_out
pause, resume                                                 {}
update         resources                                      {}
processes                                                     pids
reopen_logs                                                   {}
keep           name + descriptors                             {}: held for an engine to come, replacing that name's
kept           name                                           the descriptors
close          stay?                                          stays: whether the shim, cleaned up, waits for `park` or ends
park           cgroup                                         3 descriptors as of `sandbox`: ready for the next launch
=============  =============================================  ==================================================

Events, without `id`: `{"event": "parked"}` with the sandbox's descriptors, `{"event": "oom"}`.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from sampan.linux import sockets
from sampan.runtime.shim.loop import READ, WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.runtime.shim.loop import Loop

VERSION = 1
SOCKET_NAME = "shim.sock"


class Refused(Exception):
    """A call that cannot be done: becomes the reply's `error`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Connection:
    """One engine's connection, the shim's end."""

    def __init__(
        self, loop: Loop, sock: socket.socket, on_request: Callable[[Connection, Request], None]
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._on_request = on_request
        self._outgoing: deque[tuple[dict[str, Any], list[int]]] = deque()
        self.on_closed: Callable[[Connection], None] | None = None
        self._full = False
        """The socket takes no more, and we watch for it to do so."""
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._ready)

    def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        """Queue a message; the descriptors are duplicated, the caller keeps its own."""
        self._outgoing.append((message, [os.dup(fd) for fd in descriptors or []]))
        self._flush()

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        for _, descriptors in self._outgoing:
            _close_all(descriptors)
        self._outgoing.clear()
        if self.on_closed is not None:
            self.on_closed(self)

    def _ready(self, mask: int) -> None:
        if mask & WRITE:
            self._flush()
        while self._socket.fileno() >= 0:
            try:
                message, descriptors = sockets.receive(self._socket)
            except BlockingIOError:
                return
            except (OSError, ValueError):
                self.close()
                return
            self._on_request(self, Request(self, message, descriptors))

    def _flush(self) -> None:
        while self._outgoing and self._socket.fileno() >= 0:
            message, descriptors = self._outgoing[0]
            try:
                sockets.send(self._socket, message, descriptors)
            except BlockingIOError:
                self._full = True
                self._loop.watch(self._socket.fileno(), READ | WRITE, self._ready)
                return
            except OSError:
                self.close()
                return
            self._outgoing.popleft()
            _close_all(descriptors)
        if self._full and self._socket.fileno() >= 0:
            self._full = False
            self._loop.watch(self._socket.fileno(), READ, self._ready)


class Request:
    """A call waiting for its reply. Its descriptors are closed with the reply, unless taken."""

    __slots__ = ("_connection", "_descriptors", "message")

    def __init__(self, connection: Connection, message: dict[str, Any], descriptors: list[int]) -> None:
        self._connection = connection
        self.message = message
        self._descriptors = descriptors

    def is_from(self, connection: Connection) -> bool:
        """Whether it came by that connection."""
        return self._connection is connection

    def take_descriptors(self) -> list[int]:
        """The descriptors that came with it, from now on the caller's."""
        taken, self._descriptors = self._descriptors, []
        return taken

    def reply(self, result: dict[str, Any] | None = None, descriptors: list[int] | None = None) -> None:
        self._finish({"id": self.message.get("id"), **(result or {})}, descriptors)

    def refuse(self, kind: str, message: str) -> None:
        self._finish({"id": self.message.get("id"), "error": {"kind": kind, "message": message}}, None)

    def _finish(self, message: dict[str, Any], descriptors: list[int] | None) -> None:
        _close_all(self._descriptors)
        self._descriptors = []
        self._connection.send(message, descriptors)


class Listener:
    """The shim's socket in the bundle: mode 0600, a path and never an abstract name (CVE-2020-15257)."""

    def __init__(self, loop: Loop, bundle: str, on_accept: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._bundle = bundle
        self._on_accept = on_accept
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Through a descriptor: the path may be longer than the 107 bytes that sun_path holds.
        directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        before = os.umask(0o177)
        try:
            self._socket.bind(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{bundle}/{SOCKET_NAME}") from None
        finally:
            os.umask(before)
            os.close(directory)
        self._socket.listen(8)
        self._socket.setblocking(False)
        loop.watch(self._socket.fileno(), READ, self._accept)

    def _accept(self, mask: int) -> None:
        try:
            sock, _ = self._socket.accept()
        except OSError:
            return
        self._on_accept(sock)

    def close(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        try:
            os.unlink(f"{self._bundle}/{SOCKET_NAME}")
        except FileNotFoundError:
            pass


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
