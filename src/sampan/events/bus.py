"""The event bus: a bounded history and any number of subscribers.

Publishing never waits: it is called in the middle of state changes. A subscriber that does not read is therefore given up: its
queue is bounded, and when that is full the subscription ends, as a slow `docker events` client's connection does.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Literal

import msgspec

HISTORY = 256
"""How many past events `--since` can see, as dockerd keeps."""

_QUEUE = 4096

EventType = Literal[
    "container",
    "image",
    "volume",
    "network",
    "daemon",
    "plugin",
    "builder",
    "service",
    "node",
    "secret",
    "config",
]


class Actor(msgspec.Struct, rename="pascal", frozen=True):
    """What an event is about."""

    id: str = msgspec.field(name="ID")
    attributes: dict[str, str]


class Event(msgspec.Struct, frozen=True, omit_defaults=False):
    """One event in the form of the Engine API (`EventMessage`)."""

    type: str = msgspec.field(name="Type")
    action: str = msgspec.field(name="Action")
    actor: Actor = msgspec.field(name="Actor")
    scope: str
    time: int
    """Seconds since the epoch."""
    time_nano: int = msgspec.field(name="timeNano")


class Subscription:
    """A stream of events from the moment of subscribing; iterate it, and close it (or use it as a context manager)."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(_QUEUE)

    def offer(self, event: Event) -> None:
        """Called by the bus. A full queue ends the subscription."""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.close()

    def close(self) -> None:
        """End the stream; what is queued is dropped. Idempotent."""
        self._bus.unsubscribe(self)
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._queue.get()) is not None:
            yield event


class EventBus:
    """Publish and subscribe. One per engine; used on the engine's loop only."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._subscribers: set[Subscription] = set()

    def publish(self, type: EventType, action: str, id: str, attributes: Mapping[str, str]) -> None:
        """Tell everybody. `attributes` is copied."""
        now = self._clock()
        event = Event(type, action, Actor(id, dict(attributes)), "local", now // 1_000_000_000, now)
        self._history.append(event)
        for subscriber in tuple(self._subscribers):
            subscriber.offer(event)

    def subscribe(self) -> Subscription:
        """All events from now on."""
        subscription = Subscription(self)
        self._subscribers.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscriber. Idempotent."""
        self._subscribers.discard(subscription)

    @property
    def subscribers(self) -> int:
        """How many listen now."""
        return len(self._subscribers)

    def history(self, since_ns: int, until_ns: int | None = None) -> list[Event]:
        """Kept events with since ≤ time ≤ until, oldest first."""
        return [
            event
            for event in self._history
            if event.time_nano >= since_ns and (until_ns is None or event.time_nano <= until_ns)
        ]

    def close(self) -> None:
        """End every subscription: the engine is shutting down."""
        for subscriber in tuple(self._subscribers):
            subscriber.close()
