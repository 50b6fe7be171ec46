"""Clients that keep the registry waiting: a connection without a request, a body that stops coming.

Each holds a socket and, in the middle of an upload, a session that nobody else may write to. Silence has a limit; slowness has
none, for a thin line is no attack.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from sampan.registryserver.failures import Refused

SILENCE_MAX = 60.0
"""Seconds without a byte, in a body or before the first request of a connection."""


async def unsilent(body: AsyncIterator[bytes], limit: float) -> AsyncIterator[bytes]:
    """The body, which may be slow and not silent. Raises `Refused` (408) after `limit` seconds without a byte."""
    while True:
        try:
            async with asyncio.timeout(limit):
                chunk = await anext(body)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refused("BLOB_UPLOAD_INVALID", f"no byte for {limit:g} seconds", status=408) from None
        yield chunk


_FIELD_MAX = 1 << 20
"""Bytes of one header: tokens that list many repositories are long. Go's servers take as much."""


class PatientServer(web.Server):
    """An HTTP server that ends connections on which no request has come."""

    def __init__(
        self,
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        limit: float = SILENCE_MAX,
        read_bufsize: int = 1 << 16,
    ) -> None:
        """`limit` is in seconds from the connection to the end of its first request's header."""
        super().__init__(self._first, access_log=None, read_bufsize=read_bufsize, max_field_size=_FIELD_MAX)
        self._handle = handle
        self._limit = limit
        self._waiting: dict[RequestHandler, asyncio.TimerHandle] = {}

    def __call__(self) -> RequestHandler:
        handler = super().__call__()
        loop = asyncio.get_running_loop()
        self._waiting[handler] = loop.call_later(self._limit, self._end, handler)
        return handler

    async def _first(self, request: web.BaseRequest) -> web.StreamResponse:
        timer = self._waiting.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()
        return await self._handle(request)

    def _end(self, handler: RequestHandler) -> None:
        del self._waiting[handler]
        if handler.transport is not None:
            handler.transport.close()
