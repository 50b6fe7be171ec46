"""Which handler serves a path.

Docker's paths have an optional version in front (`/v1.50/…`), and names in them may hold slashes (`/images/{name:any}/json` with
the name `docker.io/library/busybox`). Modules collect their routes in a `Router` of their own; `merge` makes one of them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

if TYPE_CHECKING:
    from sampan.api.call import Call

Handler = Callable[["Call"], Awaitable[web.StreamResponse]]

_VERSION = re.compile(r"/v(\d+)\.(\d+)(?=/)")
_FIELD = re.compile(r"\{(\w+)(:any)?\}")


class Route(NamedTuple):
    """One method and path pattern."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler
    since: tuple[int, int]


class Match(NamedTuple):
    """A found route with the values of its fields, still percent-encoded as the client sent them decoded once."""

    handler: Handler
    fields: dict[str, str]
    since: tuple[int, int]


class Router:
    """A set of routes. Decorate handlers with `get`, `post`, `put`, `delete`, `head`."""

    def __init__(self) -> None:
        self._by_head: dict[tuple[str, str], list[Route]] = {}

    def add(self, method: str, path: str, handler: Handler, since: tuple[int, int] = (1, 24)) -> None:
        """Serve `method path` by `handler`. `{x}` takes one path segment, `{x:any}` one or more."""
        pattern = _FIELD.sub(lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})", re.sub(r"\.", r"\.", path))
        route = Route(method, re.compile(pattern + r"\Z"), handler, since)
        self._by_head.setdefault((method, path.split("/")[1]), []).append(route)

    def merge(self, other: Router) -> None:
        """Take over the routes of another router."""
        for head, routes in other._by_head.items():
            self._by_head.setdefault(head, []).extend(routes)

    def find(self, method: str, path: str) -> Match | None:
        """The first route that fits a path without its version; None is "page not found"."""
        for route in self._by_head.get((method, path.split("/", 2)[1]), ()):
            if found := route.pattern.match(path):
                return Match(route.handler, found.groupdict(), route.since)
        return None

    def has_path(self, path: str) -> bool:
        """True when some method is served at the path."""
        return any(
            route.pattern.match(path)
            for (_, head), routes in self._by_head.items()
            if head == path.split("/", 2)[1]
            for route in routes
        )

    def get(self, path: str, since: tuple[int, int] = (1, 24)) -> Callable[[Handler], Handler]:
        """Decorator for GET."""
        return self._decorator("GET", path, since)

    def head(self, path: str, since: tuple[int, int] = (1, 24)) -> Callable[[Handler], Handler]:
        """Decorator for HEAD."""
        return self._decorator("HEAD", path, since)

    def post(self, path: str, since: tuple[int, int] = (1, 24)) -> Callable[[Handler], Handler]:
        """Decorator for POST."""
        return self._decorator("POST", path, since)

    def put(self, path: str, since: tuple[int, int] = (1, 24)) -> Callable[[Handler], Handler]:
        """Decorator for PUT."""
        return self._decorator("PUT", path, since)

    def delete(self, path: str, since: tuple[int, int] = (1, 24)) -> Callable[[Handler], Handler]:
        """Decorator for DELETE."""
        return self._decorator("DELETE", path, since)

    def _decorator(self, method: str, path: str, since: tuple[int, int]) -> Callable[[Handler], Handler]:
        def decorate(handler: Handler) -> Handler:
            self.add(method, path, handler, since)
            return handler

        return decorate


def split_version(path: str) -> tuple[tuple[int, int] | None, str]:
    """("/v1.50/info") → ((1, 50), "/info"); no version in front → (None, path)."""
    found = _VERSION.match(path)
    if found is None:
        return None, path
    return (int(found[1]), int(found[2])), path[found.end() :]
