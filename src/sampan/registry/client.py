"""The client as a whole: settings, connections, and what can be asked."""

from __future__ import annotations

from sampan.names.reference import Reference
from sampan.registry import login, search
from sampan.registry.credentials import Credentials
from sampan.registry.repository import Repository
from sampan.registry.retrying import Waiting, nobody
from sampan.registry.search import SearchResult
from sampan.registry.settings import RegistrySettings
from sampan.registry.transport import Transport


class RegistryClient:
    """One per engine. Use it on the loop that it was made on."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._transport = Transport(settings)
        self._outdated: list[Transport] = []

    @property
    def settings(self) -> RegistrySettings:
        return self._transport.settings

    def reconfigure(self, settings: RegistrySettings) -> None:
        """Use other settings from the next request on; what is under way goes on with the old ones."""
        if settings != self.settings:
            self._outdated.append(self._transport)
            self._transport = Transport(settings)

    def repository(
        self, reference: Reference, credentials: Credentials, waiting: Waiting = nobody
    ) -> Repository:
        """A repository, to read or to push to. `waiting` is told when something is going to be tried again."""
        return Repository(self._transport, reference, credentials, waiting)

    async def ping(self, domain: str) -> None:
        """See `login.ping`."""
        await login.ping(self._transport, domain)

    async def log_in(self, credentials: Credentials) -> str:
        """See `login.log_in`."""
        return await login.log_in(self._transport, credentials)

    async def search(self, term: str, limit: int, credentials: Credentials) -> list[SearchResult]:
        """See `search.search`."""
        return await search.search(self._transport, term, limit, credentials)

    async def close(self) -> None:
        """End every connection."""
        for transport in [*self._outdated, self._transport]:
            await transport.close()
        self._outdated.clear()
