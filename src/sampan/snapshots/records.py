"""The rows of snapshots: which exist, on what they stand, and which directory holds each."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import Conflict, InvalidParameter, NotFound
from sampan.snapshots.interface import Kind, SnapshotInfo
from sampan.store import Schema

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

MAX_DEPTH = 128
"""Committed snapshots in one chain, beneath a container's writable one: the 127 layers that Docker allows an image, and what
`images.scaffold` puts on top."""

SNAPSHOT_SCHEMA = Schema(
    "snapshots",
    [
        """
        create table snapshot (
            id integer primary key,
            name text not null unique,
            parent integer references snapshot,
            kind text not null check (kind in ('active', 'committed', 'view')),
            depth integer not null,
            created_ns integer not null,
            labels text not null,
            size integer,
            inodes integer
        ) strict;
        create index snapshot_parent on snapshot (parent);
        create table snapshot_counter (next integer not null) strict;
        insert into snapshot_counter values (1);
        """
    ],
)

_COLUMNS = "id, name, parent, kind, depth, created_ns, labels, size, inodes"
_BLOCK = 1000


class Record(NamedTuple):
    """A row. The directory's name is `id`, which is never used again."""

    id: int
    name: str
    parent: int | None
    kind: Kind
    depth: int
    """Committed snapshots in the chain, this one included when it is committed."""
    created_ns: int
    labels: Mapping[str, str]
    size: int | None
    inodes: int | None


def reserve_ids(cx: sqlite3.Connection) -> range:
    """A block of ids that nobody has had or will have; a block lost to kill -9 is just skipped."""
    first = (
        cx.execute("update snapshot_counter set next = next + ? returning next", (_BLOCK,)).fetchone()[0]
        - _BLOCK
    )
    return range(first, first + _BLOCK)


def find(cx: sqlite3.Connection, name: str) -> Record:
    """Raises NotFound ("snapshot x does not exist: not found", containerd's words)."""
    row = cx.execute(f"select {_COLUMNS} from snapshot where name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound(f"snapshot {name} does not exist: not found")
    return _record(row)


def ancestors(cx: sqlite3.Connection, record: Record) -> list[Record]:
    """The parents, nearest first."""
    found: list[Record] = []
    while record.parent is not None:
        row = cx.execute(f"select {_COLUMNS} from snapshot where id = ?", (record.parent,)).fetchone()
        record = _record(row)
        found.append(record)
    return found


def insert(
    cx: sqlite3.Connection, id: int, key: str, parent: str, kind: Kind, labels: Mapping[str, str]
) -> Record:
    """A new active snapshot or view. Raises Conflict, NotFound, InvalidParameter."""
    base = find(cx, parent) if parent else None
    if base is not None and base.kind != "committed":
        raise InvalidParameter(f"parent {parent} is not a committed snapshot: invalid argument")
    if cx.execute("select 1 from snapshot where name = ?", (key,)).fetchone():
        raise Conflict(f"snapshot {key}: already exists")
    depth = base.depth if base else 0
    record = Record(id, key, base.id if base else None, kind, depth, time.time_ns(), dict(labels), None, None)
    cx.execute(
        f"insert into snapshot ({_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*record[:6], json.dumps(record.labels), None, None),
    )
    return record


def check_commit(cx: sqlite3.Connection, name: str, key: str) -> Record:
    """The record that `commit` would freeze. Raises NotFound, Conflict, InvalidParameter."""
    record = find(cx, key)
    if record.kind != "active":
        raise InvalidParameter(f"snapshot {key} is not active: failed precondition")
    if cx.execute("select 1 from snapshot where name = ? and name != ?", (name, key)).fetchone():
        raise Conflict(f"snapshot {name}: already exists")
    if record.depth + 1 > MAX_DEPTH:
        raise InvalidParameter("max depth exceeded")
    return record


def freeze(
    cx: sqlite3.Connection, name: str, key: str, usage: tuple[int, int], labels: Mapping[str, str]
) -> Record:
    """Turn the active snapshot into a committed one."""
    record = check_commit(cx, name, key)
    cx.execute(
        "update snapshot set name = ?, kind = 'committed', depth = depth + 1, created_ns = ?,"
        " labels = json_patch(labels, ?), size = ?, inodes = ? where id = ?",
        (name, time.time_ns(), json.dumps(dict(labels)), *usage, record.id),
    )
    return find(cx, name)


def delete(cx: sqlite3.Connection, key: str) -> Record:
    """Remove a row. Raises NotFound, Conflict while it has children."""
    record = find(cx, key)
    if has_children(cx, record):
        raise Conflict(f"cannot remove snapshot with child: {key}: failed precondition")
    cx.execute("delete from snapshot where id = ?", (record.id,))
    return record


def has_children(cx: sqlite3.Connection, record: Record) -> bool:
    return cx.execute("select 1 from snapshot where parent = ? limit 1", (record.id,)).fetchone() is not None


def set_labels(cx: sqlite3.Connection, key: str, labels: Mapping[str, str | None]) -> Record:
    cx.execute(
        "update snapshot set labels = json_patch(labels, ?) where name = ?", (json.dumps(dict(labels)), key)
    )
    return find(cx, key)


def every(cx: sqlite3.Connection) -> list[Record]:
    """All records, parents before children (a child's id is always the greater)."""
    return [_record(row) for row in cx.execute(f"select {_COLUMNS} from snapshot order by id")]


def ids(cx: sqlite3.Connection) -> set[str]:
    """The directories' names."""
    return {str(row[0]) for row in cx.execute("select id from snapshot")}


def parent_name(cx: sqlite3.Connection, record: Record) -> str:
    if record.parent is None:
        return ""
    return str(cx.execute("select name from snapshot where id = ?", (record.parent,)).fetchone()[0])


def info(record: Record, parent: str) -> SnapshotInfo:
    """The public view of a record."""
    return SnapshotInfo(record.name, parent, record.kind, record.created_ns, record.labels)


def _record(row: tuple[int, str, int | None, Kind, int, int, str, int | None, int | None]) -> Record:
    return Record(*row[:6], json.loads(row[6]), *row[7:])
