"""A client's session: the connection on which the builder asks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sampan.grpc.client import GrpcClient

if TYPE_CHECKING:
    from sampan.buildkit.waiting import Announced


class ClientSession:
    """One client that can be asked, for as long as its connection lives."""

    def __init__(self, announced: Announced, transport: asyncio.Transport, received: bytes = b"") -> None:
        self._announced = announced
        self._client = GrpcClient(transport, received)

    @property
    def id(self) -> str:
        """By which solves and definitions name it."""
        return self._announced.id

    @property
    def shared_key(self) -> str:
        """Names what this client's directories are, over several sessions."""
        return self._announced.shared_key

    @property
    def protocol(self) -> asyncio.Protocol:
        """What the transport's events go to."""
        return self._client.protocol

    async def wait_lost(self) -> None:
        """Return when the client is gone."""
        await self._client.wait_lost()

    def close(self) -> None:
        """End it."""
        self._client.close()
