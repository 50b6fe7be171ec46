"""One container in memory: its record, its run state, and what belongs to it while it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, NamedTuple

from sampan.containers.record import ContainerRecord, RunState

if TYPE_CHECKING:
    from sampan.containers.execs import Exec
    from sampan.runtime.interface import AttachStream, Shim

WaitCondition = Literal["not-running", "next-exit", "removed"]


class Exit(NamedTuple):
    """What a waiter learns."""

    code: int
    error: str = ""
    reason: str = ""
    """One line for a person, when there is more to say than the code."""


class WaitingAttach:
    """An attach to a container that does not run yet."""

    __slots__ = ("stderr", "stdin", "stdout", "stream")

    def __init__(self, *, stdin: bool, stdout: bool, stderr: bool) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.stream: asyncio.Future[AttachStream] = asyncio.get_running_loop().create_future()
        """Its connection; cancelled when there will be none."""


class Container:
    """A container known to the engine. Change its state only while holding `lock`."""

    def __init__(self, record: ContainerRecord, state: RunState) -> None:
        self.record = record
        self.state = state
        self.lock = asyncio.Lock()
        self.shim: Shim | None = None
        self.execs: dict[str, Exec] = {}
        self.waiting_attaches: list[WaitingAttach] = []
        """Attaches that came before the start: connected between launch and start, so that they miss nothing."""
        self.health_task: asyncio.Task[None] | None = None
        self.monitor: asyncio.Task[None] | None = None
        self.restart_timer: asyncio.Task[None] | None = None
        self.restart_delay = 0.0
        self.restarting_by_user = False
        """`docker restart` is under way: --rm must not act on this exit."""
        self._exit_waiters: list[asyncio.Future[Exit]] = []
        self._removal_waiters: list[asyncio.Future[Exit]] = []

    @property
    def id(self) -> str:
        """64 hex digits."""
        return self.record.id

    @property
    def name(self) -> str:
        """Without a slash."""
        return self.record.name

    def __repr__(self) -> str:
        return f"<Container {self.record.id[:12]} {self.record.name} {self.state.status}>"

    async def settled(self) -> None:
        """Wait until a start, or the handling of an exit, that is under way is complete: what the state says holds then.

        Who acts upon a state without having waited acts on one that the start is about to replace: a removal would take the
        record from under a program that then runs for ever.
        """
        async with self.lock:
            return

    def wait(self, condition: WaitCondition) -> asyncio.Future[Exit]:
        """A future of the exit that `condition` asks for; registered at once, so that nothing after this call is missed."""
        future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        if condition == "not-running" and not self.state.running:
            future.set_result(Exit(self.state.exit_code, self.state.error, self.state.reason))
        elif condition == "removed":
            self._removal_waiters.append(future)
        else:
            self._exit_waiters.append(future)
        return future

    def announce_exit(self) -> None:
        """The container is not running any more: tell those who wait for that."""
        _settle(self._exit_waiters, Exit(self.state.exit_code, self.state.error, self.state.reason))

    def announce_removal(self) -> None:
        """The container is gone: tell everybody who still waits."""
        exit = Exit(self.state.exit_code, reason=self.state.reason)
        _settle(self._exit_waiters, exit)
        _settle(self._removal_waiters, exit)

    async def connect_waiting(self, shim: Shim) -> None:
        """Connect the attaches that wait for this start."""
        waiting, self.waiting_attaches = self.waiting_attaches, []
        for attach in waiting:
            if attach.stream.done():
                continue  # its client went away
            stream = await shim.attach(stdin=attach.stdin, stdout=attach.stdout, stderr=attach.stderr)
            if attach.stream.done():
                await stream.close()
            else:
                attach.stream.set_result(stream)

    def drop_waiting(self) -> None:
        """There will be no start any more: the container is being removed."""
        for attach in self.waiting_attaches:
            attach.stream.cancel()
        self.waiting_attaches.clear()

    def cancel_restart(self) -> None:
        """Take back a restart that waits for its back-off."""
        if self.restart_timer is not None:
            self.restart_timer.cancel()
            self.restart_timer = None

    def event_attributes(self) -> dict[str, str]:
        """What every event of a container carries: its labels, image and name."""
        return {
            **(self.record.config.labels or {}),
            "image": self.record.config.image,
            "name": self.record.name,
        }


def _settle(waiters: list[asyncio.Future[Exit]], exit: Exit) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(exit)
    waiters.clear()
