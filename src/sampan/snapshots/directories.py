"""What the snapshotters have in common: a numbered directory per snapshot, rows, trash, recovery, usage."""

from __future__ import annotations

import asyncio
import errno
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from sampan.errors import InvalidParameter, NotFound, SystemFailure, reason_of
from sampan.linux.files import syncfs
from sampan.linux.trees import remove_path
from sampan.snapshots import records
from sampan.snapshots.interface import ApplyTarget, SnapshotInfo, Usage
from sampan.snapshots.records import Record
from sampan.snapshots.usage import measure

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Self

    from sampan.oci.runtime import Mount
    from sampan.snapshots.interface import Kind
    from sampan.store import Database

_TRASH = "trash"
_CHAINS = 256
"""Snapshots whose ancestors, and whose mounts, are remembered."""


class DirectorySnapshotter(ABC):
    """The `Snapshotter` protocol over directories `<root>/<id>/`; what is in one, a subclass decides."""

    name: str
    kind = "snapshot"

    def __init__(self, database: Database, root: Path) -> None:
        if set(str(root)) & set(":,\\"):
            # These separate layers and options in an overlay mount's options.
            raise InvalidParameter(
                f"snapshots can't be kept in {root}: no colon, comma or backslash is possible there"
            )
        self.root = root
        self._database = database
        self._ids: list[int] = []
        self._chains: dict[str, list[Record]] = {}
        """Committed snapshots by name, each with its ancestors: containers are started from the same few again and again."""
        self._unmounted: dict[str, list[Mount]] = {}
        """Mounts of snapshots that were prepared and not asked for since: a container's first start needs no query."""
        self._deletions: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, database: Database, root: Path) -> Self:
        """The snapshotter in `root`, made if need be; directories without a row are moved to the trash."""
        snapshotter = cls(database, root)
        known = await database.read(records.ids)
        try:
            strays = await asyncio.to_thread(snapshotter._recover, known)
        except OSError as error:
            raise SystemFailure(f"cannot keep snapshots in {root}: {reason_of(error)}") from error
        snapshotter._delete_later(strays)
        return snapshotter

    # -- the protocol

    async def prepare(self, key: str, parent: str, *, labels: Mapping[str, str] | None = None) -> list[Mount]:
        return await self._create(key, parent, "active", labels)

    async def view(self, key: str, parent: str, *, labels: Mapping[str, str] | None = None) -> list[Mount]:
        return await self._create(key, parent, "view", labels)

    async def mounts(self, key: str) -> list[Mount]:
        fresh = self._unmounted.pop(key, None)
        if fresh is not None:
            return fresh
        record, parents = await self._with_parents(key)
        if record.kind == "committed":
            raise InvalidParameter(f"snapshot {key} is committed: no mounts: failed precondition")
        await asyncio.to_thread(self._before_mount, record)
        return self._mounts(record, parents)

    async def read_mounts(self, name: str) -> list[Mount]:
        record, parents = await self._with_parents(name)
        if record.kind != "committed":
            raise InvalidParameter(f"snapshot {name} is not committed: failed precondition")
        return self._mounts(record._replace(kind="view"), [record, *parents])

    async def apply_target(self, key: str) -> ApplyTarget:
        return self._target(*await self._with_parents(key))

    async def commit(
        self, name: str, key: str, *, labels: Mapping[str, str] | None = None, durable: bool = True
    ) -> SnapshotInfo:
        record = await self._database.read(lambda cx: records.check_commit(cx, name, key))
        self._unmounted.pop(key, None)
        usage = await asyncio.to_thread(self._settle if durable else self._measure, record)
        frozen = await self._database.write(
            lambda cx: records.freeze(cx, name, key, usage, labels or {}), durable=durable
        )
        await asyncio.to_thread(self._after_commit, frozen)
        return await self.stat(name)

    async def remove(self, key: str) -> None:
        self._unmounted.pop(key, None)
        # Not durably, unless others may stand on it: after a power loss the row of an active snapshot may come back without its
        # data, but the row of its owner went before it, and what nobody owns is removed at the start.
        record = await self._database.write(lambda cx: _delete_uncommitted(cx, key), durable=False)
        if record is None:
            record = await self._database.write(lambda cx: records.delete(cx, key))
        # Without the detour by the trash, and nobody waits: ids are never used again, and what a crash leaves is known by its
        # missing row.
        self._delete_later([self.root / str(record.id)])

    async def stat(self, key: str) -> SnapshotInfo:
        def read(cx: sqlite3.Connection) -> SnapshotInfo:
            record = records.find(cx, key)
            return records.info(record, records.parent_name(cx, record))

        return await self._database.read(read)

    async def walk(self, *, labels: Mapping[str, str] | None = None) -> list[SnapshotInfo]:
        every = await self._database.read(records.every)
        names = {record.id: record.name for record in every}
        wanted = (labels or {}).items()
        return [
            records.info(record, names[record.parent] if record.parent is not None else "")
            for record in every
            if wanted <= record.labels.items()
        ]

    async def update(self, key: str, labels: Mapping[str, str | None]) -> SnapshotInfo:
        await self._database.write(lambda cx: records.set_labels(cx, key, labels))
        return await self.stat(key)

    async def usage(self, key: str) -> Usage:
        record = await self._database.read(lambda cx: records.find(cx, key))
        if record.size is not None and record.inodes is not None:
            return Usage(record.size, record.inodes)
        return await asyncio.to_thread(measure, self._tree(record.id))

    async def chain(self, name: str) -> list[str]:
        record, parents = await self._with_parents(name)
        return [each.name for each in (record, *parents)]

    async def collect_candidates(self) -> dict[str, list[tuple[str, str]]]:
        return {info.name: [("snapshot", info.parent)] if info.parent else [] for info in await self.walk()}

    async def collect(
        self, ids: Iterable[str], needed: Callable[[sqlite3.Connection, Any], bool]
    ) -> dict[str, int]:
        names = list(ids)

        def remove(cx: sqlite3.Connection) -> list[Record]:
            removed = []
            for name in names:
                try:
                    record = records.find(cx, name)
                except NotFound:
                    continue
                if not records.has_children(cx, record) and not needed(cx, ("snapshot", name)):
                    removed.append(records.delete(cx, name))
            return removed

        removed = await self._database.write(remove)
        self._delete_later(await asyncio.to_thread(self._discard, [record.id for record in removed]))
        return {record.name: record.size or 0 for record in removed}

    async def sync(self) -> None:
        await asyncio.to_thread(self._sync)

    async def close(self) -> None:
        while self._deletions:
            await asyncio.gather(*self._deletions)

    # -- what subclasses say

    @abstractmethod
    def _populate(self, directory: Path, parents: list[Record]) -> None:
        """Fill the fresh directory of an active snapshot or view. Runs in a thread."""

    @abstractmethod
    def _mounts(self, record: Record, parents: list[Record]) -> list[Mount]: ...

    @abstractmethod
    def _before_mount(self, record: Record) -> None:
        """Make it possible to mount once more. Runs in a thread."""

    @abstractmethod
    def _target(self, record: Record, parents: list[Record]) -> ApplyTarget: ...

    @abstractmethod
    def _after_commit(self, record: Record) -> None:
        """Remove what only an active snapshot needs. Runs in a thread."""

    # -- below the protocol

    def _tree(self, id: int) -> Path:
        """The directory whose contents are the snapshot's own."""
        return self.root / str(id) / "fs"

    async def _create(
        self, key: str, parent: str, kind: Kind, labels: Mapping[str, str] | None
    ) -> list[Mount]:
        if not self._ids:
            self._ids = list(await self._database.write(records.reserve_ids))[::-1]
        id = self._ids.pop()
        parents = self._chains.get(parent)
        remembered = parents is not None
        if parents is None:
            parents = await self._database.read(lambda cx: _chain_of(cx, parent))
        base = parents[0].id if parents else None

        def insert(cx: sqlite3.Connection) -> Record:
            record = records.insert(cx, id, key, parent, kind, labels or {})
            if record.parent != base:
                raise _ParentReplaced
            return record

        directory = self.root / str(id)
        try:
            await asyncio.to_thread(self._make, directory, kind, parents)
            # Not durable by itself: the row is in the database before that of the container which needs it.
            record = await self._database.write(insert, durable=False)
        except BaseException as error:
            self._chains.pop(parent, None)
            self._delete_later(await asyncio.to_thread(self._discard, [id]))
            # A remembered chain may be of layers that are gone, and unpacked again since under the same name.
            if isinstance(error, _ParentReplaced) or (remembered and isinstance(error, SystemFailure)):
                return await self._create(key, parent, kind, labels)
            raise
        if len(self._chains) >= _CHAINS:
            self._chains.clear()
        self._chains[parent] = parents
        mounts = self._mounts(record, parents)
        if len(self._unmounted) < _CHAINS and not labels:
            self._unmounted[key] = mounts
        return mounts

    def _make(self, directory: Path, kind: Kind, parents: list[Record]) -> None:
        try:
            directory.mkdir(0o700)
            if kind == "active" or not parents:
                self._populate(directory, parents)
        except OSError as error:
            raise SystemFailure(f"cannot prepare a snapshot in {directory}: {reason_of(error)}") from error

    async def _with_parents(self, key: str) -> tuple[Record, list[Record]]:
        def read(cx: sqlite3.Connection) -> tuple[Record, list[Record]]:
            record = records.find(cx, key)
            return record, records.ancestors(cx, record)

        return await self._database.read(read)

    def _measure(self, record: Record) -> Usage:
        try:
            return measure(self._tree(record.id))
        except OSError as error:
            raise SystemFailure(f"cannot commit snapshot {record.name}: {reason_of(error)}") from error

    def _settle(self, record: Record) -> Usage:
        """Measure an active snapshot and make it durable: one syncfs, whatever the number of files."""
        usage = self._measure(record)
        self._sync()
        return usage

    def _sync(self) -> None:
        try:
            fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise SystemFailure(f"cannot write snapshots to {self.root}: {reason_of(error)}") from error

    def _recover(self, known: set[str]) -> list[Path]:
        trash = self.root / _TRASH
        trash.mkdir(0o700, parents=True, exist_ok=True)
        strays = [int(name) for name in os.listdir(self.root) if name.isdecimal() and name not in known]
        self._discard(strays)
        return [trash / name for name in os.listdir(trash)]

    def _discard(self, ids: list[int]) -> list[Path]:
        """Rename directories into the trash, so that at once nothing of them is where a snapshot could be."""
        discarded = []
        for id in ids:
            target = self.root / _TRASH / str(id)
            try:
                os.rename(self.root / str(id), target)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise SystemFailure(
                        f"cannot remove snapshot directory {id}: {reason_of(error)}"
                    ) from error
            else:
                discarded.append(target)
        return discarded

    def _delete_later(self, paths: list[Path]) -> None:
        if paths:
            task = asyncio.create_task(asyncio.to_thread(_delete_trees, paths))
            self._deletions.add(task)
            task.add_done_callback(self._deletions.discard)


class _ParentReplaced(Exception):
    """The parent that was remembered has been removed, and another has its name."""


def _chain_of(cx: sqlite3.Connection, parent: str) -> list[Record]:
    if not parent:
        return []
    record = records.find(cx, parent)
    return [record, *records.ancestors(cx, record)]


def _delete_uncommitted(cx: sqlite3.Connection, key: str) -> Record | None:
    if records.find(cx, key).kind == "committed":
        return None
    return records.delete(cx, key)


def _delete_trees(paths: list[Path]) -> None:
    for path in paths:
        remove_path(path)  # what can't go now goes at the next start
