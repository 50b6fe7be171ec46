"""The shim's side of its makers (`making`): fork one when something is to be made, ask, send it away when idle."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING, Any

from sampan.linux import sockets
from sampan.runtime.interface import LaunchError
from sampan.runtime.shim import making
from sampan.runtime.shim.loop import READ

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from sampan.runtime.shim.loop import Loop, Timer
    from sampan.runtime.shim.parking import Site

    Answered = Callable[["LaunchError | None", dict[str, Any], dict[str, int]], None]
    """Called with the error (or None), the answer and its descriptors by name, which are the callee's then."""

IDLE_SECONDS = 2.0
"""How long a maker waits for more to do: a short container ends within, and its shim parks again with the same maker."""
LOST = "the process that makes containers was killed"


class Maker:
    """A child of the shim that makes processes for it, one after the other."""

    def __init__(self, loop: Loop, pid: int, sock: socket.socket) -> None:
        """`sock`: our end of the child's socket, ours now."""
        self._loop = loop
        self.pid = pid
        self._socket = sock
        self._answers: deque[Answered] = deque()
        self.on_lost: Callable[[Maker], None] | None = None
        """Called once when it has ended by itself, after the pending requests have failed."""
        loop.watch(sock.fileno(), READ, self._ready)

    def ask(self, message: dict[str, Any], descriptors: Iterable[int], answered: Answered) -> None:
        """Have it do a call of `making`; `answered` is called from the loop. The descriptors stay open here."""
        self._answers.append(answered)
        try:
            sockets.send(self._socket, message, tuple(descriptors))
        except OSError:
            pass  # it has ended: the loop finds the end of the socket, and the request fails

    def dismiss(self) -> None:
        """Let it go, and wait until it has gone; requests under way are forgotten."""
        self._answers.clear()
        self._end()

    def _end(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        with contextlib.suppress(ChildProcessError):  # reaped among others
            os.waitpid(self.pid, 0)

    def _ready(self, mask: int) -> None:
        try:
            answer, descriptors = sockets.receive(self._socket)
        except OSError:
            self._end()
            while self._answers:
                self._answers.popleft()(LaunchError(LOST, "lost"), {}, {})
            if self.on_lost is not None:
                self.on_lost(self)
            return
        error = answer.get("error")
        self._answers.popleft()(
            None if error is None else LaunchError(error["message"], error["kind"]),
            answer,
            dict(zip(answer["names"], descriptors, strict=True)),
        )


def fork_maker(site: Site) -> tuple[int, socket.socket]:
    """A fresh maker: its pid, and our end of its socket. Raises OSError."""
    ours, theirs = sockets.pair()
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        making.main(theirs.detach(), site, shim)
    theirs.close()
    return pid, ours


class Crew:
    """The makers of one shim: usually one, or none; several while several execs start at once."""

    def __init__(self, loop: Loop, spawn: Callable[[], tuple[int, socket.socket]]) -> None:
        """`spawn`: `fork_maker`, for this machine."""
        self._loop = loop
        self._spawn = spawn
        self._makers: list[Maker] = []
        self._idle: list[Maker] = []
        self._leaving: Timer | None = None
        self.on_alone: Callable[[], None] | None = None
        """Called when the last one has been sent away because nothing was to be done."""
        self.on_lost: Callable[[Maker], None] | None = None

    def take(self) -> Maker:
        """One that has nothing to do, the caller's until `release` or `dismiss`. Raises OSError when none can be forked."""
        if self._idle:
            return self._idle.pop()
        maker = Maker(self._loop, *self._spawn())
        maker.on_lost = self._lost
        self._makers.append(maker)
        return maker

    def release(self, maker: Maker) -> None:
        """It has nothing to do any more; for some seconds it is kept for what may come."""
        if maker in self._makers and maker not in self._idle:
            self._idle.append(maker)
        if self._leaving is not None:
            self._leaving.cancel()
        self._leaving = self._loop.after(IDLE_SECONDS, self._send_away)

    def dismiss(self, maker: Maker) -> None:
        """Let this one go: it holds what is not wanted any more."""
        maker.dismiss()
        self._forget(maker)

    def close(self) -> None:
        """Let all go, whatever they do."""
        while self._makers:
            self.dismiss(self._makers[-1])

    @property
    def pids(self) -> list[int]:
        return [maker.pid for maker in self._makers]

    def _send_away(self) -> None:
        self._leaving = None
        while self._idle:
            self.dismiss(self._idle[-1])
        if not self._makers and self.on_alone is not None:
            self.on_alone()

    def _lost(self, maker: Maker) -> None:
        self._forget(maker)
        if self.on_lost is not None:
            self.on_lost(maker)

    def _forget(self, maker: Maker) -> None:
        if maker in self._makers:
            self._makers.remove(maker)
        if maker in self._idle:
            self._idle.remove(maker)
