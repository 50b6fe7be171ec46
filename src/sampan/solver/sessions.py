"""What a build asks of its client. BuildKit's gRPC session is one such client; an archive sent with `POST /build` another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from sampan.registry.copying import Source
    from sampan.registry.credentials import Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRequest:
    """Which files of the client's a local source wants, with the attributes of `SourceOp` (`local.*`)."""

    name: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()
    shared_key: str = ""
    differ: str = ""
    """`none`: send all; `metadata` or empty: only what differs by size, mode, time…"""


class LocalFiles(NamedTuple):
    """Where a client's files are."""

    path: Path
    unchanged: bool = False
    """Nothing was written or removed there to bring it up to date."""


Place = Callable[[], Awaitable[Path]]
"""A directory that is this build's alone while it lasts, and holds what the same source of an earlier build left in it."""

Sent = Callable[[int, int], None]
"""Told how many files and bytes have come."""


class Session(Protocol):
    """A client that can be asked. Everything raises `SampanError` when the client refuses or is gone."""

    @property
    def id(self) -> str:
        """By which definitions name it (`local.session`)."""
        ...

    @property
    def shared_key(self) -> str:
        """Names the client's directories over several sessions; "" when it does not."""
        ...

    async def local(self, request: LocalRequest, place: Place, sent: Sent) -> LocalFiles:
        """A directory with exactly those files: the one of `place`, brought up to date, or one of the session's own that
        stays for as long as the build does."""
        ...

    async def secret(self, id: str) -> bytes | None:
        """None when the client has none of that id."""
        ...

    def ssh(self, id: str, socket: Path) -> AbstractAsyncContextManager[bool]:
        """While the block lasts, what connects to `socket` talks to the client's agent. False: the client has none of that id."""
        ...

    async def credentials(self, host: str) -> Credentials:
        """For a registry."""
        ...

    def image(self, store: str, digest: str) -> Source:
        """What a digest means in a store (an OCI layout) of the client's. Raises `NotSupported` when it has none."""
        ...


class Sessions:
    """The sessions that are open, by id. Whoever serves clients adds and removes them."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    def add(self, session: Session) -> None:
        """From now on builds find it."""
        self._open[session.id] = session

    def remove(self, session: Session) -> None:
        """It is gone."""
        if self._open.get(session.id) is session:
            del self._open[session.id]

    def get(self, id: str) -> Session | None:
        """None when it is not (or no longer) there."""
        return self._open.get(id)
