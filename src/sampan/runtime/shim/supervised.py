"""One process of a container, from its start to the moment everybody knows how it ended."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from sampan.linux import process, terminal
from sampan.runtime.interface import ExitStatus
from sampan.runtime.shim.loop import READ
from sampan.runtime.shim.protocol import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.runtime.shim.loop import Loop
    from sampan.runtime.shim.protocol import Request
    from sampan.runtime.shim.pump import Pump
    from sampan.runtime.shim.streams import Streams

DRAIN_SECONDS = 2.0
"""How long after the exit its end is kept back for output still in the pipes; dockerd's figure."""


class Supervised:
    """A child process, its streams and those who wait for its end.

    `on_exit` is called the moment it ended (the status may be completed there), `on_told` after its output was
    read to the end, or `DRAIN_SECONDS` later, when the waiters are answered.
    """

    def __init__(self, loop: Loop, pid: int, pidfd: int, streams: Streams, pump: Pump) -> None:
        self.pid = pid
        self.streams = streams
        self.pump = pump
        self.status: ExitStatus | None = None
        self.on_exit: Callable[[ExitStatus], ExitStatus] | None = None
        self.on_told: Callable[[], None] | None = None
        self.signal: Callable[[int], None] | None = None
        """How to send it a signal, when the kernel's way is not the right one."""
        self._loop = loop
        self._pidfd = pidfd
        self._told = False
        self._waiters: list[Request] = []
        pump.on_finished = self._tell_if_ended
        loop.watch(pidfd, READ, lambda mask: self.reap())

    @property
    def running(self) -> bool:
        return self.status is None

    def kill(self, number: int) -> None:
        """Signal it. Raises Refused when it has ended."""
        if self.status is not None:
            raise Refused("not-running", "process has already ended")
        if self.signal is not None:
            self.signal(number)
            return
        try:
            process.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            raise Refused("not-running", "process has already ended") from None

    def resize(self, rows: int, columns: int) -> None:
        """Set its terminal's size. Raises Refused when it has none."""
        console = self.streams.console
        if console is None:
            raise Refused("no-terminal", "process has no terminal")
        terminal.set_size(console, rows, columns)

    def wait(self, request: Request) -> None:
        """Answer the request once the end may be told."""
        if self._told:
            request.reply(self._report())
        else:
            self._waiters.append(request)

    def dispose(self) -> None:
        """Give up streams, clients and the pidfd."""
        self.pump.abandon()
        self.pump.close_clients()
        self.streams.close()
        if self._pidfd >= 0:
            self._loop.forget(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def reap(self) -> None:
        """It has ended, or is about to: take its status."""
        self._loop.forget(self._pidfd)
        try:
            _, status = os.waitpid(self.pid, 0)
            code = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            code = 255
        ended = ExitStatus(code if code >= 0 else 128 - code, time.time_ns(), False, "")
        self.status = ended if self.on_exit is None else self.on_exit(ended)
        if self.pump.finished:
            self._tell()
        else:
            self._loop.after(DRAIN_SECONDS, self._tell)

    def _tell_if_ended(self) -> None:
        if self.status is not None:
            self._tell()

    def _tell(self) -> None:
        if self._told:
            return
        self._told = True
        for request in self._waiters:
            request.reply(self._report())
        self._waiters.clear()
        if self.on_told is not None:
            self.on_told()

    def _report(self) -> dict[str, Any]:
        assert self.status is not None
        return self.status._asdict()
