"""So many at the same time, with a number that may change meanwhile (`max-concurrent-downloads`)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType


class Slots:
    """A context that lets at most `limit()` in; who waits gets in in order. A limit of 0 is no limit."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if not self._free() or self._waiting:
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place  # the one that leaves hands its place over
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._leave()
                else:
                    self._waiting.remove(place)
                raise
        else:
            self._used += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _free(self) -> bool:
        limit = self._limit()
        return limit <= 0 or self._used < limit

    def _leave(self) -> None:
        self._used -= 1
        while self._waiting and self._free():
            place = self._waiting.popleft()
            if not place.done():
                self._used += 1
                place.set_result(None)
