"""The volume service's rows: functions of a database connection, for `Database.read` and `write`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from sampan.store import Schema

VOLUMES_SCHEMA = Schema(
    "volumes",
    [
        """
        create table volume (
            name text primary key, driver text not null, created_ns integer not null, options text, labels text,
            removing integer not null default 0
        ) strict, without rowid;
        """,
        "alter table volume add column goes_with text not null default ''",
    ],
)


class VolumeRecord(NamedTuple):
    """A volume as it is stored. No options and empty options are told apart, as Docker's answers do."""

    name: str
    driver: str
    created_ns: int
    options: dict[str, str] | None
    labels: dict[str, str] | None

    @property
    def needs_mount(self) -> bool:
        """True when its data is elsewhere: on a device, a server, another directory."""
        options = self.options or {}
        return bool(options.get("device") or options.get("type"))


def load_volumes(cx: sqlite3.Connection) -> list[VolumeRecord]:
    """Every volume that is not being removed."""
    rows = cx.execute(
        "select name, driver, created_ns, options, labels from volume where not removing"
    ).fetchall()
    return [
        VolumeRecord(name, driver, created_ns, _load(options), _load(labels))
        for name, driver, created_ns, options, labels in rows
    ]


def load_removing(cx: sqlite3.Connection) -> list[str]:
    """Names whose removal has been decided but not carried out."""
    return [name for (name,) in cx.execute("select name from volume where removing")]


def put_volume(cx: sqlite3.Connection, record: VolumeRecord, goes_with: str = "") -> None:
    """Add a volume. `goes_with`: the container that is being made, without which nobody wants it."""
    cx.execute(
        "insert into volume (name, driver, created_ns, options, labels, goes_with) values (?, ?, ?, ?, ?, ?)",
        (
            record.name,
            record.driver,
            record.created_ns,
            _dump(record.options),
            _dump(record.labels),
            goes_with,
        ),
    )


def keep_volumes(cx: sqlite3.Connection, container: str) -> None:
    """The container is there: what was made for it stays."""
    cx.execute("update volume set goes_with = '' where goes_with = ?", (container,))


def doom_volumes(cx: sqlite3.Connection, container: str, names: Iterable[str]) -> None:
    """The container goes, and these are to go with it."""
    cx.executemany("update volume set goes_with = ? where name = ?", [(container, name) for name in names])


def load_doomed(cx: sqlite3.Connection) -> list[str]:
    """Names of volumes whose container was never finished, or is gone."""
    return [name for (name,) in cx.execute("select name from volume where goes_with != '' and not removing")]


def spare_volumes(cx: sqlite3.Connection, names: Iterable[str]) -> None:
    """Somebody else uses these: they stay."""
    cx.executemany("update volume set goes_with = '' where name = ?", [(name,) for name in names])


def begin_removal(cx: sqlite3.Connection, name: str) -> None:
    """From here on the volume does not exist; its directory is still to be moved away."""
    cx.execute("update volume set removing = 1 where name = ?", (name,))


def drop_volume(cx: sqlite3.Connection, name: str) -> None:
    """Forget a volume whose directory is gone."""
    cx.execute("delete from volume where name = ?", (name,))


def _dump(values: dict[str, str] | None) -> str | None:
    return None if values is None else json.dumps(values)


def _load(text: str | None) -> dict[str, str] | None:
    return None if text is None else dict(json.loads(text))
