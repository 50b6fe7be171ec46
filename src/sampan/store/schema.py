"""Schemas of the services, and how a database file is brought up to them.

Each service owns its tables and says so with a `Schema`: a name and a list of migrations, each a script of SQL that is run
once, in order, for ever. A migration that has been released is never edited; a change of shape is a further entry.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from sampan.errors import SystemFailure


class Schema(NamedTuple):
    """The tables of one service."""

    name: str
    migrations: list[str]


_VERSIONS = (
    "create table if not exists schema_version (name text primary key, version integer not null) strict"
)


def migrate(connection: sqlite3.Connection, schemas: Iterable[Schema]) -> None:
    """Run every migration that this file has not seen, each in a transaction of its own.

    Raises `SystemFailure` when the file was written by a newer Sampan.
    """
    connection.execute(_VERSIONS)
    for schema in schemas:
        row = connection.execute(
            "select version from schema_version where name = ?", (schema.name,)
        ).fetchone()
        version = row[0] if row else 0
        if version > len(schema.migrations):
            raise SystemFailure(
                f"the database holds {schema.name} at version {version}, newer than this Sampan's {len(schema.migrations)}:"
                " upgrade Sampan or use another --data-root"
            )
        for number, script in enumerate(schema.migrations[version:], start=version + 1):
            connection.execute("begin immediate")
            try:
                for statement in _statements(script):
                    connection.execute(statement)
                connection.execute(
                    "insert or replace into schema_version values (?, ?)", (schema.name, number)
                )
                connection.execute("commit")
            except BaseException:
                connection.execute("rollback")
                raise


def _statements(script: str) -> Iterable[str]:
    """Split a script; `executescript` would commit the transaction that makes a migration all or nothing."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
