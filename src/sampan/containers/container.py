"""One container in memory: its record, its run state, and what belongs to it while it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, NamedTuple

from sampan.containers.record import ContainerRecord, RunState

if TYPE_CHECKING:
    from sampan.containers.execs import Exec
    from sampan.runtime.interface import Shim

WaitCondition = Literal["not-running", "next-exit", "removed"]


class Exit(NamedTuple):
    """What a waiter learns."""

    code: int
    error: str = ""


class Container:
    """A container known to the engine. Change its state only while holding `lock`."""

    def __init__(self, record: ContainerRecord, state: RunState) -> None:
        self.record = record
        self.state = state
        self.lock = asyncio.Lock()
        self.shim: Shim | None = None
        self.execs: dict[str, Exec] = {}
        self.launched: asyncio.Future[Shim] | None = None
        """Where attaches that came before the start wait for the shim; made on demand."""
        self.attaching = 0
        """Attaches that have seen the shim but are not connected yet; start waits for them."""
        self.attached = asyncio.Event()
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

    def wait(self, condition: WaitCondition) -> asyncio.Future[Exit]:
        """A future of the exit that `condition` asks for; registered at once, so that nothing after this call is missed."""
        future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        if condition == "not-running" and not self.state.running:
            future.set_result(Exit(self.state.exit_code, self.state.error))
        elif condition == "removed":
            self._removal_waiters.append(future)
        else:
            self._exit_waiters.append(future)
        return future

    def announce_exit(self) -> None:
        """The container is not running any more: tell those who wait for that."""
        _settle(self._exit_waiters, Exit(self.state.exit_code, self.state.error))

    def announce_removal(self) -> None:
        """The container is gone: tell everybody who still waits."""
        exit = Exit(self.state.exit_code, self.state.error)
        _settle(self._exit_waiters, exit)
        _settle(self._removal_waiters, exit)

    def when_launched(self) -> asyncio.Future[Shim]:
        """A future of the shim of the next start (shared: do not cancel it, shield it)."""
        if self.launched is None or self.launched.done():
            self.launched = asyncio.get_running_loop().create_future()
        return self.launched

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
