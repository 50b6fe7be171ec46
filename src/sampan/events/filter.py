"""The filters of `docker events`."""

from __future__ import annotations

from collections.abc import Callable

from sampan.engineapi.filters import Filters
from sampan.events.bus import Event

_OBJECTS = (
    "container",
    "image",
    "volume",
    "network",
    "daemon",
    "plugin",
    "service",
    "node",
    "secret",
    "config",
    "builder",
)


def matcher(filters: Filters) -> Callable[[Event], bool]:
    """A test of events. Names that Docker does not have are ignored, as by Docker."""
    kinds = [kind for kind in _OBJECTS if kind in filters]

    def matches(event: Event) -> bool:
        return (
            _action(filters, event)
            and filters.exact("type", event.type)
            and filters.exact("scope", event.scope)
            and filters.labels(event.actor.attributes)
            and (not kinds or any(_object(filters, kind, event) for kind in kinds))
        )

    return matches


def _action(filters: Filters, event: Event) -> bool:
    """`event=exec_create` matches the action `exec_create: ls`."""
    wanted = filters.get("event")
    return not wanted or event.action in wanted or event.action.partition(":")[0] in wanted


def _object(filters: Filters, kind: str, event: Event) -> bool:
    """The object that the event is about, by id, name or, for images, repository; an image filter also takes its containers."""
    attributes = event.actor.attributes
    if kind == "image" and event.type in ("image", "container"):
        names = (
            [event.actor.id, attributes.get("name", "")]
            if event.type == "image"
            else [attributes.get("image", "")]
        )
        return any(
            filters.match("image", name) or _without_tag(name) in filters.get("image")
            for name in names
            if name
        )
    if kind != event.type:
        return False
    return any(
        value in (event.actor.id, attributes.get("name")) or event.actor.id.startswith(value)
        for value in filters.get(kind)
    )


def _without_tag(name: str) -> str:
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name
