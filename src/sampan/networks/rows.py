"""The network service's rows: functions of a database connection, for `Database.read` and `write`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

import msgspec

from sampan.engineapi.network import EndpointSettings
from sampan.networks.model import NetworkRecord, SandboxRecord

_encode = msgspec.json.encode


def load_networks(cx: sqlite3.Connection) -> list[NetworkRecord]:
    """Every network."""
    found = cx.execute("select record from network order by rowid").fetchall()
    return [msgspec.json.decode(blob, type=NetworkRecord) for (blob,) in found]


def put_network(cx: sqlite3.Connection, record: NetworkRecord) -> None:
    """Add or replace a network."""
    cx.execute("insert or replace into network values (?, ?, ?)", (record.id, record.name, _encode(record)))


def drop_network(cx: sqlite3.Connection, identifier: str) -> None:
    """Forget a network."""
    cx.execute("delete from network where id = ?", (identifier,))


def load_endpoints(cx: sqlite3.Connection) -> dict[str, dict[str, EndpointSettings]]:
    """Every container's configuration: container → network → settings."""
    found: dict[str, dict[str, EndpointSettings]] = {}
    rows = cx.execute("select container, network, settings from network_endpoint order by position")
    for container, network, blob in rows:
        settings = msgspec.json.decode(blob, type=EndpointSettings)
        found.setdefault(container, {})[network] = settings
    return found


def put_endpoints(cx: sqlite3.Connection, container: str, settings: Mapping[str, EndpointSettings]) -> None:
    """Make these a container's configuration."""
    cx.execute("delete from network_endpoint where container = ?", (container,))
    cx.executemany(
        "insert into network_endpoint values (?, ?, ?, ?)",
        [
            (container, position, network, _encode(each))
            for position, (network, each) in enumerate(settings.items())
        ],
    )


def load_sandboxes(cx: sqlite3.Connection) -> dict[str, SandboxRecord]:
    """What containers had that were running."""
    rows = cx.execute("select container, record from network_sandbox").fetchall()
    return {container: msgspec.json.decode(blob, type=SandboxRecord) for container, blob in rows}


def put_sandbox(cx: sqlite3.Connection, container: str, record: SandboxRecord) -> None:
    """Store what a running container has."""
    cx.execute("insert or replace into network_sandbox values (?, ?)", (container, _encode(record)))


def drop_sandbox(cx: sqlite3.Connection, container: str) -> None:
    """The container runs no more."""
    cx.execute("delete from network_sandbox where container = ?", (container,))


def drop_sandboxes(cx: sqlite3.Connection, containers: Iterable[str]) -> None:
    """These containers run no more."""
    cx.executemany("delete from network_sandbox where container = ?", [(each,) for each in containers])


def drop_container(cx: sqlite3.Connection, container: str) -> None:
    """Forget a container entirely."""
    drop_sandbox(cx, container)
    cx.execute("delete from network_endpoint where container = ?", (container,))


def drop_containers(cx: sqlite3.Connection, containers: Iterable[str]) -> None:
    """Forget these containers entirely."""
    for container in containers:
        drop_container(cx, container)
