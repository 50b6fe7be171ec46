"""From an accepted connection to a handler and back: versions, headers, errors.

`ApiServer` makes a `FrontDoor` per connection; `handle` is what aiohttp calls per request.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from urllib.parse import unquote
from weakref import WeakSet

from aiohttp import web

from sampan.api.call import Call
from sampan.api.errors import error_response
from sampan.api.frontdoor import BuilderDoors, FrontDoor, door_of
from sampan.api.http import HttpServer
from sampan.api.responses import standard_headers
from sampan.api.router import Router, split_version
from sampan.engineapi.version import API_VERSION, MINIMUM_API_VERSION
from sampan.errors import InvalidParameter, NotFound

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

log = logging.getLogger(__name__)


class ApiServer:
    """The HTTP face of one engine. Listeners call `protocol` for each connection."""

    def __init__(self, engine: Engine, router: Router, builder: BuilderDoors) -> None:
        self._engine = engine
        self._router = router
        self._builder = builder
        self._http = HttpServer(self.handle)
        self._doors: WeakSet[FrontDoor] = WeakSet()
        self.idle_changed = asyncio.Event()

    def protocol(self) -> asyncio.Protocol:
        """A new connection's protocol, for `loop.create_server`."""
        door = FrontDoor(self._http, self._builder)
        self._doors.add(door)
        return door

    @property
    def open_connections(self) -> int:
        """Connections that clients hold now; an engine started on demand stays while there is one."""
        return len(self._http.connections) + self._builder.open_connections

    async def close(self, timeout: float = 3.0) -> None:
        """End what would go on for ever, let other requests finish for `timeout` seconds, then drop what is left."""
        for door in tuple(self._doors):
            door.end_streams()
        await self._builder.close()
        await self._http.shutdown(timeout)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request; every error becomes an answer here."""
        try:
            response = await self._dispatch(request)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            response = error_response(error)
        if not response.prepared:
            _add_headers(response)
        if request.transport is not None:
            door_of(request).release()
        return response

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        path = unquote(request.rel_url.raw_path)
        version, path = split_version(path)
        if version is not None:
            _check_version(version)
        found = self._router.find(request.method, path)
        if found is None or (version or API_VERSION) < found.since:
            if request.method == "OPTIONS" and self._router.has_path(path):
                return web.Response(status=200)
            raise NotFound("page not found")
        return await found.handler(
            Call(self._engine, request, version or API_VERSION, found.fields, self._builder)
        )


def _check_version(version: tuple[int, int]) -> None:
    spoken = "{}.{}".format(*version)
    if version < MINIMUM_API_VERSION:
        raise InvalidParameter(
            f"client version {spoken} is too old. Minimum supported API version is {MINIMUM_API_VERSION[0]}."
            f"{MINIMUM_API_VERSION[1]}, please upgrade your client to a newer version"
        )
    if version > API_VERSION:
        raise InvalidParameter(
            f"client version {spoken} is too new. Maximum supported API version is {API_VERSION[0]}.{API_VERSION[1]}"
        )


def _add_headers(response: web.StreamResponse) -> None:
    response.headers.update(standard_headers())
