"""The shim's event loop: descriptors, timers, nothing else."""

from __future__ import annotations

import heapq
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR


class Timer:
    """A callback to come; `cancel` takes it back."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """Level-triggered. A handler gets the event mask, and may forget any descriptor, its own included."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[Timer] = []
        self._running = True

    def watch(self, descriptor: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler(mask)` whenever the descriptor is ready. Watched already: replaces events and handler."""
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Watch it no longer; to be called before it is closed. Unknown ones are ignored."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def forget_timers(self) -> None:
        """Call none of those that were to come."""
        self._timers.clear()

    def stop(self) -> None:
        """Return from `run` after the present handler."""
        self._running = False

    def run(self) -> None:
        while self._running:
            self._turn(self._timeout())

    def run_what_is_ready(self) -> None:
        """Deal with what has happened, and do not wait for more."""
        while self._running and self._turn(0):
            pass

    def close(self) -> None:
        self._epoll.close()

    def _turn(self, timeout: float) -> bool:
        """Whether there was anything to do but timers."""
        events = self._epoll.poll(timeout)
        for descriptor, mask in events:
            # Looked up anew each time: an earlier handler of this batch may have closed this one.
            handler = self._handlers.get(descriptor)
            if handler is not None:
                handler(mask)
            if not self._running:
                return True
        self._run_timers()
        return bool(events)

    def _timeout(self) -> float:
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0].when - time.monotonic()) if self._timers else -1.0

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0].when <= now:
            callback = heapq.heappop(self._timers).callback
            if callback is not None:
                callback()
