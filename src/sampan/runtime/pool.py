"""Shims ahead of demand: forked or come back from a container, parked, handed out.

A parked shim (`shim.parking`) has everything that can be made before the container is known. One whose container is
closed does not end but parks again: its memory is its own by then and its code warm, which makes the next container cost
half as much as one with a fresh fork (a fork pays for each page that it touches first). At rest `size` of them wait; under
load up to `_MOST`, and the surplus leaves when nothing has been started for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.errors import SystemFailure
from sampan.linux import sockets
from sampan.runtime.interface import Sandbox
from sampan.runtime.shimclient import Connection, readable
from sampan.zygote.client import ZygoteLost

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sampan.cgroups import Layout
    from sampan.zygote.client import Child, Zygote

SHIM_ENTRY = "sampan.runtime.shim.main:main"

_MOST = 12
"""Spares kept under load."""
_BREATH_SECONDS = 0.02
"""How long a shim that came back waits before it parks, while there are others."""
_SURPLUS_SECONDS = 3.0
"""How long spares beyond the usual number wait for work."""


class ShimSettings(NamedTuple):
    """What all shims of an engine are told."""

    layout: Layout
    seccomp_cache: str
    """Directory of compiled filters."""

    def as_arguments(self) -> dict[str, Any]:
        """For `shim.main`."""
        layout = self.layout
        return {
            "seccomp_cache": self.seccomp_cache,
            "layout": [layout.version, layout.roots, layout.unified],
        }


class Spare(NamedTuple):
    """A shim without a container."""

    child: Child
    connection: Connection
    sandbox: Sandbox | None

    @property
    def alive(self) -> bool:
        return not select.select([self.child.pidfd], [], [], 0)[0]

    def discard(self) -> None:
        """Let it go: it cleans up when its connection closes."""
        self.connection.close()
        self.child.close()
        if self.sandbox is not None:
            for descriptor in self.sandbox:
                os.close(descriptor)


class ShimPool:
    """The spares of one engine."""

    def __init__(self, zygote: Zygote, cgroup_prefix: str, settings: ShimSettings, size: int) -> None:
        """`cgroup_prefix`: path of parked cgroups, to which a number is added. `size` 0 parks none."""
        self._zygote = zygote
        self._cgroup_prefix = cgroup_prefix
        self._settings = settings
        self._size = size
        self._spares: deque[Spare] = deque()
        self._arriving: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._hurry = asyncio.Event()
        """Somebody waits for a spare."""
        self._count = 0
        self._surplus: asyncio.TimerHandle | None = None
        self._taken = 0.0
        """When somebody last asked for a spare, by the loop's clock."""
        self._closed = False
        self._refill(size)

    async def take(self) -> Spare | None:
        """A parked shim, as soon as there is one; None when none can be parked."""
        if not self._size:
            return None
        self._taken = asyncio.get_running_loop().time()
        # Half the size: what has been taken is likely to come back before it is needed.
        self._refill(max(self._size // 2, 1) + 1 + len(self._waiting))
        while True:
            while self._spares:
                spare = self._spares.pop()  # the last one to come back: its memory is the warmest
                if spare.alive:
                    return spare
                spare.discard()  # somebody killed it
            if not self._arriving:
                return None
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            self._hurry.set()
            await waiter

    @property
    def wants_back(self) -> bool:
        """Whether a shim whose container is being closed should park again."""
        return not self._closed and self._size > 0 and len(self._spares) + len(self._arriving) < _MOST

    def give_back(self, child: Child, connection: Connection) -> None:
        """A shim has closed its container and stays: ours now."""
        self._arrive(self._park_again(child, connection))

    async def fork_unparked(self) -> Spare:
        """A shim that has prepared nothing, for a container that differs from the usual."""
        child, connection = await self._fork(None)
        return Spare(child, connection, None)

    async def close(self) -> None:
        """End all spares; returns when they are gone."""
        self._closed = True
        if self._surplus is not None:
            self._surplus.cancel()
        await asyncio.sleep(0)  # one that was cancelled before its first step could not take its shim back
        for task in self._arriving:
            task.cancel()
        await asyncio.gather(*self._arriving, return_exceptions=True)
        spares, self._spares = self._spares, deque()
        await asyncio.gather(*(_end(spare) for spare in spares))

    # ---

    def _refill(self, wanted: int) -> None:
        while len(self._spares) + len(self._arriving) < wanted:
            # Together, not one after the other: each waits for the other side.
            self._arrive(self._park_new())

    def _arrive(self, arrival: Coroutine[Any, Any, Spare]) -> None:
        """Wait in the background for a spare to be parked."""
        task = asyncio.create_task(self._receive(arrival))
        self._arriving.add(task)
        task.add_done_callback(self._arrived)

    async def _receive(self, arrival: Coroutine[Any, Any, Spare]) -> None:
        try:
            self._spares.append(await arrival)
        except SystemFailure:
            # Without a spare the next container is slower, not broken; it will say what is wrong.
            return

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._arriving.discard(task)
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break
        if not self._waiting:
            self._hurry.clear()
        if len(self._spares) > self._size and self._surplus is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._surplus = loop.call_later(_SURPLUS_SECONDS, self._drop_surplus)

    def _drop_surplus(self) -> None:
        """One at a time, and none while containers are started: each would have to be forked again."""
        self._surplus = None
        loop = asyncio.get_running_loop()
        idle = loop.time() - self._taken
        if idle < _SURPLUS_SECONDS:
            self._surplus = loop.call_later(_SURPLUS_SECONDS - idle, self._drop_surplus)
            return
        if len(self._spares) > self._size:
            self._spares.popleft().discard()
        if len(self._spares) > self._size:
            self._surplus = loop.call_later(0.2, self._drop_surplus)

    def _next_cgroup(self) -> str:
        self._count += 1
        return f"{self._cgroup_prefix}{os.getpid()}-{self._count}"

    async def _park_new(self) -> Spare:
        child, connection = await self._fork(self._next_cgroup())
        parked: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()

        def event(message: dict[str, Any], descriptors: list[int]) -> None:
            if parked.done():
                for descriptor in descriptors:
                    os.close(descriptor)
            else:
                parked.set_result(Sandbox(*descriptors))

        def lost() -> None:
            if not parked.done():
                parked.set_exception(SystemFailure("a shim could not be parked"))

        connection.on_event = event
        connection.on_lost = lost
        try:
            sandbox = await parked
        except BaseException:
            await _end(Spare(child, connection, None))
            raise
        connection.on_lost = None
        return Spare(child, connection, sandbox)

    async def _park_again(self, child: Child, connection: Connection) -> Spare:
        try:
            if self._spares:
                # Nobody needs this one yet, but somebody waits for the end of the life that it has just closed: parking would
                # take the processor from that.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), _BREATH_SECONDS)
            _, descriptors = await connection.call("park", {"cgroup": self._next_cgroup()})
        except BaseException:
            await _end(Spare(child, connection, None))
            raise
        return Spare(child, connection, Sandbox(*descriptors))

    async def _fork(self, park: str | None) -> tuple[Child, Connection]:
        try:
            return await self._fork_once(park)
        except ZygoteLost:
            # A shim that it may have forked ends with its connection, which is closed by now.
            return await self._fork_once(park)

    async def _fork_once(self, park: str | None) -> tuple[Child, Connection]:
        ours, theirs = sockets.pair()
        with theirs:
            try:
                child = await self._zygote.fork_lasting(
                    SHIM_ENTRY, {"park": park, **self._settings.as_arguments()}, [theirs.fileno()]
                )
            except BaseException:
                ours.close()
                raise
        return child, Connection(ours)


async def _end(spare: Spare) -> None:
    """Discard a spare and wait until it has cleaned up."""
    ended = os.dup(spare.child.pidfd)
    spare.discard()
    try:
        await asyncio.shield(readable(ended))
    finally:
        os.close(ended)
