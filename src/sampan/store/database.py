"""The engine's one SQLite database, reached from asyncio without ever blocking the loop.

Two threads, each with a connection of its own: one writes, one reads. Callers hand in functions of a connection::

    await db.write(lambda cx: cx.execute("insert into volume values (?, ?)", row))
    rows = await db.read(lambda cx: cx.execute("select name from volume").fetchall())

**Group commit.** The writer runs every function that is waiting, each within a savepoint, and commits once; an exception undoes
only its own function and reaches only its own caller. A write has been committed when `write` returns.

**Durability.** `durable=True` commits with synchronous=FULL: on return the row survives power loss (2-3 ms). `durable=False`
commits with synchronous=NORMAL: it survives any death of the engine, and after a power loss the database is consistent but may
lack the last moments (0.03 ms). A batch is durable when one of its writes asks for it.

**A full disk.** The file and its log have room of their own (`reserve`), so that what frees space can be written.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from sampan.errors import SystemFailure, reason_of
from sampan.store.reserve import Reserve
from sampan.store.schema import Schema, migrate

T = TypeVar("T")

_BATCH = 256


class _Job:
    """A function that waits for its thread, and the future of whoever asked."""

    __slots__ = ("durable", "function", "future", "loop")

    def __init__(self, function: Callable[[sqlite3.Connection], Any], durable: bool) -> None:
        self.function = function
        self.durable = durable
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()

    def succeed(self, result: object) -> None:
        self._tell(self.set_result, result)

    def fail(self, error: BaseException) -> None:
        self._tell(self._set_exception, error)

    def _tell(self, setter: Callable[[Any], None], value: object) -> None:
        try:
            self.loop.call_soon_threadsafe(setter, value)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def set_result(self, result: Any) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def _set_exception(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Database:
    """See the module. Make one with `Database.open`; `close` waits for what is queued."""

    def __init__(self, writer: sqlite3.Connection, reader: sqlite3.Connection, reserve: Reserve) -> None:
        self._reserve = reserve
        self._writes: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._write_loop, args=(writer,), name="db-writer", daemon=True),
            threading.Thread(target=self._read_loop, args=(reader,), name="db-reader", daemon=True),
        ]
        self._closed = False
        for thread in self._threads:
            thread.start()

    @classmethod
    async def open(cls, path: Path, schemas: Iterable[Schema]) -> Database:
        """Open or create the file and bring it up to the schemas.

        Raises `SystemFailure` when it cannot be opened, is not a database, or was written by a newer Sampan.
        """
        return await asyncio.to_thread(cls._open, path, list(schemas))

    @classmethod
    def _open(cls, path: Path, schemas: list[Schema]) -> Database:
        reserve = Reserve(path)
        try:
            reserve.take_over()
            writer = _connect(path)
            writer.execute("pragma journal_mode = wal")
            migrate(writer, schemas)
            reader = _connect(path)
            reader.execute("pragma query_only = on")
            reserve.begin()
        except (sqlite3.Error, OSError) as error:
            raise SystemFailure(f"cannot open the database {path}: {_words(error)}") from error
        return cls(writer, reader, reserve)

    async def write(self, function: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run `function` in the writer's transaction and return its result once it is committed.

        The function must not commit. An exception of it undoes its changes and is raised here; a full disk or a broken file is
        raised as `SystemFailure`.
        """
        result: T = await self._submit(self._writes, _Job(function, durable))
        return result

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` on the reading connection, in one snapshot of everything that has been committed."""
        result: T = await self._submit(self._reads, _Job(function, durable=False))
        return result

    async def settle(self) -> None:
        """The engine's start is over: take back the room on the disk that was kept for it."""
        await asyncio.to_thread(self._reserve.settle)

    async def close(self) -> None:
        """Finish what is queued and close the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._writes.put(None)
        self._reads.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        await asyncio.to_thread(self._reserve.end)

    def _submit(self, jobs: queue.SimpleQueue[_Job | None], job: _Job) -> asyncio.Future[Any]:
        if self._closed:
            raise SystemFailure("the database is closed: the engine is shutting down")
        jobs.put(job)
        return job.future

    def _write_loop(self, connection: sqlite3.Connection) -> None:
        durable_now: bool | None = None
        while True:
            batch, last = _take_batch(self._writes)
            if batch:
                durable = any(job.durable for job in batch)
                if durable is not durable_now:
                    connection.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
                    durable_now = durable
                _commit_batch(connection, batch)
                self._reserve.committed()
            if last:
                connection.close()
                return

    def _read_loop(self, connection: sqlite3.Connection) -> None:
        while (job := self._reads.get()) is not None:
            try:
                connection.execute("begin")
                try:
                    job.succeed(job.function(connection))
                finally:
                    connection.execute("rollback")
            except sqlite3.Error as error:
                job.fail(SystemFailure(f"cannot read the database: {_words(error)}"))
            except Exception as error:
                job.fail(error)
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute("pragma foreign_keys = on")
    connection.execute("pragma busy_timeout = 5000")
    connection.execute(
        "pragma temp_store = memory"
    )  # what a savepoint undoes goes to no other disk, which may be full
    return connection


_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
"""SQLite's words for the second are "disk I/O error": the index of its log has no room."""


def _words(error: Exception) -> str:
    if getattr(error, "sqlite_errorcode", None) in _FULL:
        return os.strerror(errno.ENOSPC).lower()
    return reason_of(error) if isinstance(error, OSError) else str(error)


def _take_batch(jobs: queue.SimpleQueue[_Job | None]) -> tuple[list[_Job], bool]:
    """Wait for one job, then take what else is there. True: the queue has been closed."""
    job = jobs.get()
    batch: list[_Job] = []
    while job is not None:
        batch.append(job)
        if len(batch) == _BATCH:
            return batch, False
        try:
            job = jobs.get_nowait()
        except queue.Empty:
            return batch, False
    return batch, True


def _commit_batch(connection: sqlite3.Connection, batch: list[_Job]) -> None:
    done: list[tuple[_Job, Any]] = []
    try:
        connection.execute("begin immediate")
        for job in batch:
            connection.execute("savepoint job")
            try:
                result = job.function(connection)
            except sqlite3.OperationalError:
                raise  # a full disk or an I/O error concerns the file, not this function
            except Exception as error:
                connection.execute("rollback to job")
                job.fail(error)
            else:
                done.append((job, result))
            connection.execute("release job")
        connection.execute("commit")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("rollback")
        if len(batch) == 1:
            batch[0].fail(SystemFailure(f"cannot write the database: {_words(error)}"))
            return
        for job in batch:  # one function's fault must not fail its neighbours: each again, alone
            if not job.future.done():
                _commit_batch(connection, [job])
        return
    _tell_all(done)


def _tell_all(done: list[tuple[_Job, Any]]) -> None:
    """Wake each loop once for all of a batch: every wake-up is two system calls and a turn of the loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Any]]] = {}
    for job, result in done:
        loops.setdefault(job.loop, []).append((job, result))
    for loop, jobs in loops.items():
        try:
            loop.call_soon_threadsafe(_set_results, jobs)
        except RuntimeError:
            continue  # the loop is closed: nobody waits any more


def _set_results(done: list[tuple[_Job, Any]]) -> None:
    for job, result in done:
        job.set_result(result)
