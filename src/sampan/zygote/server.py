"""The zygote's own process: waits for requests on one SEQPACKET socket, forks, and reports exits.

Requests, each one packet of JSON (see `sampan.linux.sockets`):

    {"id": 7, "call": "fork", "entry": "module:function", "args": {…}}   and descriptors
        → {"id": 7, "pid": 4711}   and the child's pidfd
    {"id": 7, "call": "fork-lasting", …}   the same for a child that lives long (`seed`)
    {"id": 8, "call": "preload", "modules": ["…", "module:function"]}
        → {"id": 8}
    a failed request → {"id": 7, "error": "text"}
    a child's end    → {"exit": 4711, "status": 0}   (wait status as of waitpid)

The child calls `function(args, descriptors)` and exits with the integer it returns (None is 0). End of file on the
socket ends the zygote, never its children.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any

from sampan.linux import pages, process, sockets
from sampan.zygote.seed import Seed

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    Entry = Callable[[dict[str, Any], list[int]], int | None]

OOM_SCORE = -998
"""As containerd's shims: the kernel kills containers before what supervises them."""


def main() -> None:
    """Detach from whoever started us, import what the children need, and serve until the engine is gone."""
    arguments = sys.argv[1:]
    sock = socket.socket(fileno=int(arguments[arguments.index("--socket") + 1]))
    os.set_inheritable(sock.fileno(), False)
    _detach()
    for position, argument in enumerate(arguments):
        if argument == "--preload":
            _preload(arguments[position + 1])
    gc.disable()
    Server(sock).serve()


def _detach() -> None:
    """Nothing of the engine's surroundings reaches the shims: session, directory, umask, signals, descriptors."""
    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    # A session of our own: no terminal can interrupt us, and no KeyboardInterrupt is wanted.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    process.set_name("sampan-zygote")
    # CVE-2019-5736, CVE-2016-9962: a container's process must not be able to open our /proc entries while one of
    # our children enters it. Children inherit this; only exec of another program lifts it.
    process.set_dumpable(False)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(OOM_SCORE))
    except OSError:  # not root: the score cannot be lowered
        pass


class Server:
    """One engine's fork server. Single-threaded; every wait is in `serve`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._epoll = select.epoll()
        self._children: dict[int, int] = {}
        """pidfd → pid"""
        self._seed: Seed | None = None

    def serve(self) -> None:
        self._epoll.register(self._socket, select.EPOLLIN)
        self._freeze()
        pages.lay_down()
        while True:
            for descriptor, _ in self._epoll.poll():
                if descriptor == self._socket.fileno():
                    try:
                        message, descriptors = sockets.receive(self._socket)
                    except ConnectionError:
                        return
                    self._answer(message, descriptors)
                else:
                    self._reap(descriptor)

    def _freeze(self) -> None:
        # Objects alive now are never examined by a child's collector: their pages stay shared.
        gc.collect()
        gc.freeze()

    def _answer(self, message: dict[str, Any], descriptors: list[int]) -> None:
        reply: dict[str, Any] = {"id": message["id"]}
        pidfds: list[int] = []
        try:
            if message["call"] == "fork":
                pid, pidfd = self._fork(message["entry"], message["args"], descriptors)
                reply["pid"] = pid
                pidfds = [pidfd]
            elif message["call"] == "fork-lasting":
                pid, pidfd = self._fork_lasting(message, descriptors)
                reply["pid"] = pid
                pidfds = [pidfd]
            elif message["call"] == "preload":
                for name in message["modules"]:
                    _preload(name)
                self._freeze()
                self._end_seed()
            else:
                reply["error"] = f"unknown call {message['call']!r}"
        except Exception as error:
            reply["error"] = f"{type(error).__name__}: {error}"
        for descriptor in descriptors:
            os.close(descriptor)
        self._send(reply, pidfds)

    def _send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        try:
            sockets.send(self._socket, message, descriptors)
        except ConnectionError:
            pass  # the engine is gone; the next receive says so and ends us

    def _fork(self, entry: str, args: dict[str, Any], descriptors: list[int]) -> tuple[int, int]:
        function = _resolve(entry)
        pid = os.fork()
        if pid == 0:
            self._become(function, args, descriptors)
        # The child cannot be reaped before this: only we reap, and only in `_reap`.
        pidfd = process.pidfd_open(pid)
        self._watch(pid, pidfd)
        return pid, pidfd

    def _fork_lasting(self, message: dict[str, Any], descriptors: list[int]) -> tuple[int, int]:
        _resolve(message["entry"])
        try:
            pid, pidfd = self._sow(message, descriptors)
        except OSError:
            # Somebody has killed it: another one is a fork away.
            self._end_seed()
            pid, pidfd = self._sow(message, descriptors)
        self._watch(pid, pidfd)
        return pid, pidfd

    def _sow(self, message: dict[str, Any], descriptors: list[int]) -> tuple[int, int]:
        if self._seed is None:
            self._seed = Seed(self._become_lasting)
        return self._seed.fork(message, descriptors)

    def _become_lasting(self, message: dict[str, Any], descriptors: list[int]) -> NoReturn:
        self._become(_resolve(message["entry"]), message["args"], descriptors)

    def _end_seed(self) -> None:
        if self._seed is not None:
            self._seed.close()
            self._seed = None

    def _watch(self, pid: int, pidfd: int) -> None:
        self._children[pidfd] = pid
        self._epoll.register(pidfd, select.EPOLLIN)

    def _become(self, function: Entry, args: dict[str, Any], descriptors: list[int]) -> NoReturn:
        """In the child: drop the zygote's descriptors, run, exit without unwinding into the server."""
        status = 1
        try:
            process.close_all_except([*descriptors, pages.file()])
            # The zygote's objects would close descriptors that by now are others' when the collector finds them.
            self._socket.detach()
            gc.enable()
            status = function(args, descriptors) or 0
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)

    def _reap(self, pidfd: int) -> None:
        pid = self._children.pop(pidfd)
        self._epoll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._send({"exit": pid, "status": status}, [])


def _preload(name: str) -> None:
    """Import a module; of "module:function", call the function as well, which makes it ready for the forks to come."""
    module, _, function = name.partition(":")
    imported = importlib.import_module(module)
    if function:
        getattr(imported, function)()


def _resolve(entry: str) -> Entry:
    module, _, name = entry.partition(":")
    function: Entry = getattr(importlib.import_module(module), name)
    return function
