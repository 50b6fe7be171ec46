"""Which sessions are open, and waiting for one that a solve names: the client opens both at once, and either may come first."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sampan.errors import Conflict, InvalidParameter, NotFound
from sampan.solver.sessions import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sampan.buildkit.clientstore import ClientStore
    from sampan.buildkit.session import ClientSession
    from sampan.buildkit.trees import Files

PATIENCE = 5.0
"""Seconds that a solve waits for its session, as BuildKit does."""

_PREFIX = "x-docker-expose-session-"


class Client(Session, Protocol):
    """A session that also takes results and gives archives, whatever it speaks."""

    async def send_directories(
        self, files: Sequence[Files], exporter: int = 0, mtime_ns: int | None = None
    ) -> None:
        """Give the client directories of different names, which it puts where its exporter number `exporter` says; with `mtime_ns`
        all files have that time."""
        ...

    async def send_file(
        self, chunks: AsyncIterator[bytes], described: Mapping[str, str], exporter: int = 0
    ) -> None:
        """Give the client a file; `described` is what its name may be made of."""
        ...

    def upload(self, url: str) -> AsyncIterator[bytes]:
        """What the client offers under a URL."""
        ...

    def content(self, store: str) -> ClientStore:
        """A content store on the client's side. Raises `NotSupported` when it has none."""
        ...

    def close(self) -> None:
        """End it."""
        ...


@dataclass(frozen=True, slots=True)
class Announced:
    """What a client says of its session before it begins."""

    id: str
    name: str
    shared_key: str
    methods: frozenset[str]
    """What it serves, in lower case: `/moby.filesync.v1.filesync/diffcopy`."""


class SessionDirectory:
    """The open sessions by id."""

    def __init__(self) -> None:
        self._open: dict[str, Client] = {}
        self._news = asyncio.Condition()
        self._watching: set[asyncio.Task[None]] = set()

    def announced(self, headers: Mapping[str, Sequence[str]]) -> Announced:
        """From a request's headers. Raises `InvalidParameter` without an id, `Conflict` for one that is open."""

        def first(name: str) -> str:
            values = headers.get(_PREFIX + name)
            return values[0] if values else ""

        id = first("uuid")
        if not id:
            raise InvalidParameter("a session needs an id")
        if id in self._open:
            raise Conflict(f"session {id} already exists")
        methods = frozenset(value.lower() for value in headers.get(_PREFIX + "grpc-method", ()))
        return Announced(id, first("name"), first("sharedkey"), methods)

    def add_while_open(self, session: ClientSession) -> None:
        """List a session for as long as its connection lives."""
        task = asyncio.create_task(self._list(session))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _list(self, session: ClientSession) -> None:
        async with self.listed(session):
            await session.wait_lost()

    def listed(self, session: Client) -> _Listed:
        """Findable inside the block."""
        return _Listed(self, session)

    async def find(self, id: str, patience: float = PATIENCE) -> Client:
        """The session of that id, when it comes within `patience` seconds. Raises `NotFound`."""
        # `prefix:id` keeps a definition's names of several sessions apart; who is asked is the id.
        wanted = id.partition(":")[2] or id

        async def arrival() -> Client:
            async with self._news:
                await self._news.wait_for(lambda: wanted in self._open)
                return self._open[wanted]

        try:
            return await asyncio.wait_for(arrival(), patience)
        except TimeoutError:
            raise NotFound(f"no active session for {wanted}: context deadline exceeded") from None

    def close(self) -> None:
        """End every session."""
        for session in tuple(self._open.values()):
            session.close()


class _Listed:
    def __init__(self, directory: SessionDirectory, session: Client) -> None:
        self._directory = directory
        self._session = session

    async def __aenter__(self) -> None:
        directory, session = self._directory, self._session
        if directory._open.setdefault(session.id, session) is not session:
            session.close()
            raise Conflict(f"session {session.id} already exists")
        async with directory._news:
            directory._news.notify_all()

    async def __aexit__(self, *_: object) -> None:
        if self._directory._open.get(self._session.id) is self._session:
            del self._directory._open[self._session.id]
