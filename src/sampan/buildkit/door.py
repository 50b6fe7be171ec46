"""What the front door hands connections to. Nothing of protobuf or gRPC is imported before the first one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.api.frontdoor import HijackedStream, Http2Door
    from sampan.build.interface import BuildRequest, Follow
    from sampan.buildkit.server import BuilderServer
    from sampan.engine.engine import Engine
    from sampan.solver.progress import Event


class BuildkitDoors:
    """The doors of one engine's builder. See `sampan.api.frontdoor.BuilderDoors`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._started: BuilderServer | None = None

    def __call__(self, transport: asyncio.Transport, received: bytes) -> asyncio.Protocol:
        return self._server.accept(transport, received)

    def session(self, headers: Mapping[str, Sequence[str]]) -> Http2Door:
        """For a connection on which the client serves. Raises `InvalidParameter`, `Conflict`."""
        return self._server.session(headers)

    async def direct(self, stream: HijackedStream) -> None:
        """A build for a client of our own."""
        await self._server.direct.serve(stream)

    async def posted(self, request: BuildRequest, body: AsyncIterator[bytes], follow: Follow) -> str:
        """A build that is one request."""
        return await self._server.posted.build(request, body, follow)

    async def posted_directory(self, request: BuildRequest, directory: Path, follow: Follow) -> str:
        """The same of files that are here already."""
        return await self._server.posted.build_directory(request, directory, follow)

    def listener(self) -> asyncio.Protocol:
        """A protocol for a socket that speaks nothing else."""
        return _Listener(self)

    def status(self, events: Sequence[Event]) -> bytes:
        """Events as a `StatusResponse`."""
        from sampan.buildkit.status import status_response

        return status_response(events).SerializeToString()

    @property
    def open_connections(self) -> int:
        """Clients that are connected."""
        return self._started.open_connections if self._started else 0

    async def close(self) -> None:
        """End every connection, and what was asked for on it."""
        if self._started is not None:
            await self._started.close()

    @property
    def _server(self) -> BuilderServer:
        if self._started is None:
            from sampan.buildkit.server import BuilderServer

            self._started = BuilderServer(self._engine)
        return self._started


class _Listener(asyncio.Protocol):
    def __init__(self, doors: BuildkitDoors) -> None:
        self._doors = doors

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_protocol(self._doors(transport, b""))
