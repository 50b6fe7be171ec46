"""What lists cost to find out, kept in SQLite beside the storage, which stays the truth.

Nothing is in here that could contradict the storage: a manifest's description is a function of its digest, and a directory's list
is used only while the directory's stamp is the one that it was read under. Which manifests and directories there are is asked of
the storage each time. So an index that is old, another storage's, or gone costs time and nothing else.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from sampan.oci.image import Descriptor

log = logging.getLogger("sampan.registry")

T = TypeVar("T")

_VERSION = 1
_DESCRIPTIONS_MAX = 500_000
"""Descriptions at the start beyond which all are dropped: those of manifests that are gone are never taken out one by one."""
_BUSY_SECONDS = 2.0
_TABLES = """
create table manifest (digest text primary key, descriptor blob not null) without rowid;
create table directory (path text primary key, stamp text not null, listed blob not null) without rowid;
"""


class Listed(NamedTuple):
    """What matters of a directory of repositories."""

    stamp: str
    """The storage's, taken before the directory was read."""
    is_repository: bool
    below: list[str]
    """Names that may lead to more repositories."""


class ListIndex:
    """See the module. Its methods block, never raise, and may be called from several threads and programs."""

    def __init__(self, file: Path | None = None) -> None:
        """Without a file, or where it cannot be written, it lasts as long as the process."""
        self._file = file
        self._lock = threading.Lock()
        self._connection = self._opened()

    def descriptions(self, digests: Iterable[str]) -> dict[str, Descriptor]:
        """The manifests of these that are known, as referrers are described."""
        wanted = msgspec.json.encode(list(digests)).decode()

        def read(connection: sqlite3.Connection) -> dict[str, Descriptor]:
            rows = connection.execute(
                "select digest, descriptor from manifest where digest in (select value from json_each(?))",
                (wanted,),
            )
            return {digest: msgspec.json.decode(data, type=Descriptor) for digest, data in rows}

        return self._with(read, {})

    def keep_descriptions(self, found: Iterable[Descriptor]) -> None:
        """Know these manifests from now on."""
        rows = [(each.digest, msgspec.json.encode(each)) for each in found]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("insert or replace into manifest values (?, ?)", rows)

        self._with(write, None)

    def directories(self) -> dict[str, Listed]:
        """Every directory that is known, by its path."""

        def read(connection: sqlite3.Connection) -> dict[str, Listed]:
            rows = connection.execute("select path, stamp, listed from directory")
            return {
                path: Listed(stamp, *msgspec.json.decode(data, type=tuple[bool, list[str]]))
                for path, stamp, data in rows
            }

        return self._with(read, {})

    def keep_directories(self, changed: dict[str, Listed], gone: Iterable[str]) -> None:
        """Know these from now on, and forget those that are gone."""
        rows = [
            (path, each.stamp, msgspec.json.encode((each.is_repository, each.below)))
            for path, each in changed.items()
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("insert or replace into directory values (?, ?, ?)", rows)
            connection.executemany("delete from directory where path = ?", [(path,) for path in gone])

        self._with(write, None)

    def close(self) -> None:
        """Nothing is kept any more."""
        with self._lock:
            self._connection.close()

    def _with(self, work: Callable[[sqlite3.Connection], T], without: T) -> T:
        """Do it in a transaction; `without` when the index is of no use. A damaged one is begun anew."""
        with self._lock:
            try:
                with self._connection:
                    return work(self._connection)
            except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
                log.debug("index: %s", error)  # busy, full disk, closed: the next call may find it well again
            except (sqlite3.DatabaseError, msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
                log.warning("the index %s is damaged and is begun anew: %s", self._file, error)
                self._connection.close()
                self._connection = self._anew()
            return without

    def _opened(self) -> sqlite3.Connection:
        """The connection, its tables there."""
        if self._file is None:
            return _connected(":memory:")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            return _connected(str(self._file))
        except sqlite3.OperationalError as error:
            log.warning("index %s: %s: lists take longer after each start", self._file, error)
        except sqlite3.DatabaseError as error:
            log.warning("the index %s is damaged and is begun anew: %s", self._file, error)
            return self._anew()
        except OSError as error:
            log.warning("index %s: %s: lists take longer after each start", self._file, error.strerror)
        return _connected(":memory:")

    def _anew(self) -> sqlite3.Connection:
        """An empty one in the place of one that cannot be read; in memory when that fails too."""
        try:
            if self._file is not None:
                for suffix in ("", "-journal"):
                    Path(f"{self._file}{suffix}").unlink(missing_ok=True)
                return _connected(str(self._file))
        except (OSError, sqlite3.Error) as error:
            log.warning("index %s: %s: lists take longer after each start", self._file, error)
        return _connected(":memory:")


def _connected(name: str) -> sqlite3.Connection:
    """Open or make it. Raises `sqlite3.Error`."""
    connection = sqlite3.connect(name, timeout=_BUSY_SECONDS, check_same_thread=False)
    try:
        with connection:
            connection.execute("begin immediate")
            (version,) = connection.execute("pragma user_version").fetchone()
            if version != _VERSION:
                for table in ("manifest", "directory"):
                    connection.execute(f"drop table if exists {table}")
                for statement in filter(str.strip, _TABLES.split(";")):
                    connection.execute(statement)
                connection.execute(f"pragma user_version = {_VERSION}")
            (count,) = connection.execute("select count(*) from manifest").fetchone()
            if count > _DESCRIPTIONS_MAX:
                connection.execute("delete from manifest")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
