"""Events reach subscribers in order, history is bounded, and a subscriber that does not read is given up."""

from __future__ import annotations

import asyncio

import pytest

from sampan.engineapi.filters import Filters
from sampan.events import Event, EventBus
from sampan.events.bus import HISTORY, Actor
from sampan.events.filter import matcher


def ticking() -> EventBus:
    now = iter(range(1, 10_000_000))
    return EventBus(lambda: next(now) * 1_000_000_000)


def test_live_events_arrive_in_order() -> None:
    async def run() -> list[str]:
        bus = ticking()
        with bus.subscribe() as live:
            bus.publish("container", "create", "c1", {})
            bus.publish("container", "start", "c1", {})
            bus.close()
            return [event.action async for event in live]

    assert asyncio.run(run()) == []  # closing drops what nobody read


def test_a_reader_sees_each_event_once() -> None:
    async def run() -> list[str]:
        bus = ticking()
        seen: list[str] = []
        with bus.subscribe() as live:
            for action in ("create", "start", "die"):
                bus.publish("container", action, "c1", {})
            async for event in live:
                seen.append(event.action)
                if event.action == "die":
                    break
        return seen

    assert asyncio.run(run()) == ["create", "start", "die"]


def test_history_is_bounded_and_selected_by_time() -> None:
    bus = ticking()
    for number in range(HISTORY + 10):
        bus.publish("image", "pull", str(number), {})
    kept = bus.history(0)
    assert (len(kept), kept[0].actor.id) == (HISTORY, "10")
    second = 1_000_000_000
    assert [event.actor.id for event in bus.history(20 * second, 22 * second)] == ["19", "20", "21"]


def test_a_subscriber_that_does_not_read_is_given_up() -> None:
    async def run() -> tuple[int, list[Event]]:
        bus = ticking()
        live = bus.subscribe()
        for number in range(5000):
            bus.publish("image", "pull", str(number), {})
        return bus.subscribers, [event async for event in live]

    assert asyncio.run(run()) == (0, [])


def event(type: str, action: str, id: str, **attributes: str) -> Event:
    return Event(type, action, Actor(id, attributes), "local", 0, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("filters", "matching"),
    [
        ({}, "abcd"),
        ({"type": ["image"]}, "d"),
        ({"event": ["start", "pull"]}, "bd"),
        ({"event": ["exec_create"]}, "c"),
        ({"container": ["web"]}, "ab"),
        ({"container": ["f00"]}, "ab"),
        ({"label": ["tier=front"]}, "a"),
        ({"label": ["tier"]}, "ab"),
        ({"image": ["busybox"]}, "abd"),
        ({"container": ["web"], "event": ["create"]}, "a"),
        ({"scope": ["swarm"]}, ""),
    ],
)
def test_filters(filters: dict[str, list[str]], matching: str) -> None:
    events = {
        "a": event("container", "create", "f00d", name="web", image="busybox", tier="front"),
        "b": event("container", "start", "f00d", name="web", image="busybox:1", tier="back"),
        "c": event("container", "exec_create: ls -l", "beef", name="db", image="postgres"),
        "d": event("image", "pull", "busybox:latest", name="busybox"),
    }
    wanted = matcher(Filters(filters))
    assert "".join(name for name, each in events.items() if wanted(each)) == matching


def test_unknown_filters_are_ignored_as_docker_does() -> None:
    wanted = matcher(Filters({"colour": ["red"], "type": ["volume"]}))
    assert wanted(event("volume", "create", "v")) and not wanted(event("network", "create", "n"))
