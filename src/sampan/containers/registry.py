"""All containers: in memory by id and name, in the database for the next engine.

Writes follow the design's order. A container that removes itself is not worth a synchronous write: after a power loss it would be
removed anyway. Its row, and every run state, is written with the cheap kind of commit, which survives any death of the engine.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from collections.abc import Callable, Iterator

import msgspec

from sampan.containers.container import Container
from sampan.containers.record import ContainerRecord, RunState
from sampan.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from sampan.store import Database, Schema

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0
"""Between two attempts to store what could not be stored."""

CONTAINERS_SCHEMA = Schema(
    "containers",
    [
        """
        create table container (
            id text primary key,
            name text not null unique,
            record blob not null,
            state blob not null
        ) strict;
        """
    ],
)

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_HEX = re.compile(r"[0-9a-f]+\Z")
_encode = msgspec.json.Encoder().encode
_decode_record = msgspec.json.Decoder(ContainerRecord).decode
_decode_state = msgspec.json.Decoder(RunState).decode


class ContainerRegistry:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._unsaved: dict[str, asyncio.Task[None]] = {}

    async def load(self) -> None:
        """Read every container of the database; once, at the engine's start."""
        rows = await self._database.read(
            lambda cx: cx.execute("select record, state from container order by rowid").fetchall()
        )
        for record_json, state_json in rows:
            container = Container(_decode_record(record_json), _decode_state(state_json))
            self._by_id[container.id] = container
            self._names[container.name] = container.id

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def by_id(self, container_id: str) -> Container | None:
        """By the whole id."""
        return self._by_id.get(container_id)

    def get(self, reference: str) -> Container:
        """By id, name (with or without its slash), or unambiguous beginning of an id, in this order.

        Raises `NotFound`, or `InvalidParameter` when several ids begin so.
        """
        if (container := self._by_id.get(reference)) is not None:
            return container
        owner = self._names.get(reference.removeprefix("/"), "")
        if (container := self._by_id.get(owner)) is not None:
            return container
        if reference and _HEX.match(reference):
            found = [id for id in self._by_id if id.startswith(reference)]
            if len(found) == 1:
                return self._by_id[found[0]]
            if found:
                raise InvalidParameter(f"multiple IDs found with provided prefix: {reference}")
        if not reference.strip():
            raise (
                InvalidParameter('invalid name or ID supplied: ""')
                if not reference
                else NotFound(f"No such container: {reference}")
            )
        raise NotFound(f"No such container: {reference}")

    def reserve_name(self, name: str, container_id: str) -> str:
        """Claim a name for an id, without the database; returns it without its slash.

        Raises `InvalidParameter` for an impossible name, `Conflict` for a taken one.
        """
        bare = name.removeprefix("/")
        if not _NAME.match(bare):
            raise InvalidParameter(
                f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )
        owner = self._names.setdefault(bare, container_id)
        if owner != container_id:
            raise Conflict(
                f'Conflict. The container name "/{bare}" is already in use by container "{owner}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        return bare

    def release_name(self, name: str, container_id: str) -> None:
        """Give a claimed name back."""
        if self._names.get(name) == container_id:
            del self._names[name]

    def name_taken(self, name: str) -> bool:
        """Whether somebody has the name."""
        return name in self._names

    async def add(self, container: Container, together: Callable[[sqlite3.Connection], None]) -> None:
        """Store a new container whose data is in place; its name has been reserved. `together` writes in the same transaction."""
        row = (container.id, container.name, _encode(container.record), _encode(container.state))
        durable = not container.record.host_config.auto_remove

        def write(cx: sqlite3.Connection) -> None:
            cx.execute("insert into container values (?, ?, ?, ?)", row)
            together(cx)

        await self._database.write(write, durable=durable)
        self._by_id[container.id] = container

    async def save(self, container: Container) -> None:
        """Store record and state as they are now."""
        row = (container.name, _encode(container.record), _encode(container.state), container.id)
        await self._database.write(
            lambda cx: (
                cx.execute("update container set name = ?, record = ?, state = ? where id = ?", row) and None
            ),
            durable=False,
        )

    async def save_state(self, container: Container) -> None:
        """Store the run state as it is now."""
        row = (_encode(container.state), container.id)
        await self._database.write(
            lambda cx: cx.execute("update container set state = ? where id = ?", row) and None, durable=False
        )

    async def keep_state(self, container: Container) -> None:
        """The same for what has happened, or must, whatever becomes of the row: where it cannot be written (a full disk), that is
        tried again until it can."""
        try:
            await self.save_state(container)
        except SystemFailure as error:
            log.error("%s: its state is not stored yet: %s", container.id, error)
            if container.id not in self._unsaved:
                self._unsaved[container.id] = asyncio.create_task(self._save_later(container))

    async def _save_later(self, container: Container) -> None:
        while self._by_id.get(container.id) is container:
            await asyncio.sleep(_AGAIN_SECONDS)
            try:
                await self.save_state(container)
            except SystemFailure:
                continue
            break
        del self._unsaved[container.id]

    async def remove(self, container: Container, together: Callable[[sqlite3.Connection], None]) -> None:
        """Delete the row; afterwards nobody finds the container. `together` writes in the same transaction."""
        durable = not container.record.host_config.auto_remove

        def write(cx: sqlite3.Connection) -> None:
            cx.execute("delete from container where id = ?", (container.id,))
            together(cx)

        await self._database.write(write, durable=durable)
        self._by_id.pop(container.id, None)
        self.release_name(container.name, container.id)
