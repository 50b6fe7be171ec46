"""Equal work of several builds, done once: the first to ask starts it, the others wait, and it ends early when nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from sampan.solver.progress import Progress, Reporter

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self, task: asyncio.Task[T], report: Reporter) -> None:
        self.task = task
        self.report = report
        self.waiting = 0


class Flights(Generic[T]):
    """Work under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    async def join(
        self, key: str, report: Reporter, progress: Progress, work: Callable[[Reporter], Awaitable[T]]
    ) -> T:
        """The result of `work` under `key`, which is called with the reporter unless it is under way already.

        A caller that is cancelled leaves; the last one to leave waits until the cancelled work has ended.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(asyncio.ensure_future(work(report)), report)
            self._flights[key] = flight
            flight.task.add_done_callback(lambda _: self._landed(key))
        flight.report.add(progress)
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.task.done():
                self._flights.pop(key, None)  # who comes now begins anew
                flight.task.cancel()
                await asyncio.wait({flight.task})

    def _landed(self, key: str) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task.done():
            del self._flights[key]
            if not flight.task.cancelled():
                flight.task.exception()  # seen, even if everybody has left
