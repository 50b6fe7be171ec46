"""Reading a container's log while it is being written: tail, since, until, follow, across rotations.

::

    async for data in LogReader("json-file", path, workers).read(View(framed=True), follow=True, ended=container_ended):
        await response.write(data)

Nothing is polled: following waits for inotify. Large parts are decoded by a worker process; small ones in steps between
which other tasks get their turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sampan.errors import SystemFailure
from sampan.logs import files
from sampan.logs.changes import DirectoryChanges
from sampan.logs.entries import FORMATS
from sampan.logs.files import LogFile, Position
from sampan.logs.spool import Piece, read_piece, read_runs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from sampan.logs.entries import Format, Run
    from sampan.logs.present import View
    from sampan.zygote.workers import Workers

T = TypeVar("T")

_STEP = 64 * 1024
_WORTH_A_WORKER = 1024 * 1024
_PIPE = 1024 * 1024


class _Part(NamedTuple):
    """An open file of the log, and where to begin in it."""

    file: LogFile
    offset: int = 0
    end: int | None = None
    """What is written after it is none of ours; None: all that there will be."""


class _Spool(NamedTuple):
    """A worker's job, and the pipe that it writes to."""

    job: asyncio.Task[Any]
    reading: int
    writing: int


class LogReader:
    """One container's log files. Any number of reads at once; holds nothing between them."""

    def __init__(self, driver: str, path: str, workers: Workers | None = None) -> None:
        self._driver = driver
        self._format: Format = FORMATS[driver]
        self._path = path
        self._directory = os.path.dirname(path)
        self._workers = workers

    async def read(
        self, view: View, *, tail: int | None = None, follow: bool = False, ended: asyncio.Event | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The log in order, in batches. `tail`: only the last so many entries, before the view's times are looked at.

        With `follow` it goes on until `ended` is set and everything written by then was read, or until an
        entry is later than `view.until_ns`.
        """

        def pieces(descriptor: int, offset: int, end: int | None) -> AsyncGenerator[Piece, None]:
            return self._pieces(view, descriptor, offset, end)

        walk = self._walk(lambda: self._open(tail, follow), pieces, follow=follow, ended=ended)
        async with contextlib.aclosing(walk):
            async for piece, _ in walk:
                if piece.data:
                    yield piece.data
                if piece.over:
                    return

    async def entries_since(
        self, position: Position | None, ended: asyncio.Event
    ) -> AsyncGenerator[tuple[list[Run], Position], None]:
        """All entries after a position (None: from the oldest there is), as they are written, until `ended` and the last one.

        Each batch comes with the position after it: kept, it is where another engine goes on. When the file of the
        position has been rotated away, the oldest file there is comes next.
        """
        walk = self._walk(lambda: self._open_at(position), self._runs, follow=True, ended=ended)
        async with contextlib.aclosing(walk):
            async for piece, file in walk:
                yield piece.data, files.position_in(file, piece.offset)

    async def _walk(
        self,
        opened: Callable[[], list[_Part]],
        pieces: Callable[[int, int, int | None], AsyncGenerator[Piece, None]],
        *,
        follow: bool,
        ended: asyncio.Event | None,
    ) -> AsyncGenerator[tuple[Piece, LogFile], None]:
        """Go through the files that `opened` opens; every piece with the file that it is from."""
        changes = DirectoryChanges(self._directory) if follow else None
        parts: list[_Part] = []
        try:
            parts = await _owned(_close_all, opened)
            while parts or follow:
                if not parts:
                    parts = await self._first_file(changes, ended)
                    if not parts:
                        return
                if parts[0].file.compressed:
                    packed = parts.pop(0)  # ours no more: unpacking closes it
                    unpacked = await _owned(_close_all, self._unpack, packed)
                    parts[:0] = unpacked
                file, offset, end = parts[0]
                descriptor = file.descriptor
                following = follow and len(parts) == 1
                while True:
                    # Asked before reading: what is written before the end is set is read after it.
                    last_look = not following or ended is None or ended.is_set()
                    async with contextlib.aclosing(pieces(descriptor, offset, end)) as found:
                        async for piece in found:
                            offset = piece.offset
                            yield piece, file
                    if following and (newer := await self._newer(descriptor)):
                        parts.extend(newer)
                        # Nothing is written to it any more, but it has to be read to its end.
                        following = False
                    elif last_look:
                        break
                    elif os.fstat(descriptor).st_size < offset:
                        offset = 0  # somebody has truncated it
                    elif changes is not None:
                        await changes.wait(ended)
                last = len(parts) == 1
                os.close(parts.pop(0).file.descriptor)
                if last:
                    return
        finally:
            _close_all(parts)
            if changes is not None:
                changes.close()

    async def _first_file(self, changes: DirectoryChanges | None, ended: asyncio.Event | None) -> list[_Part]:
        """Nothing was written yet: wait for the file; empty when the end comes first."""
        while True:
            last_look = ended is None or ended.is_set()
            if parts := await _owned(_close_all, self._open, None, True):
                return parts
            if last_look or changes is None:
                return []
            await changes.wait(ended)

    async def _runs(self, descriptor: int, offset: int, end: int | None) -> AsyncGenerator[Piece, None]:
        if end is None:
            end = os.fstat(descriptor).st_size
        while offset < end:
            piece = read_runs(self._format, descriptor, offset, min(_STEP, end - offset))
            if piece.offset == offset:
                return
            offset = piece.offset
            yield piece
            await asyncio.sleep(0)

    def _open_at(self, position: Position | None) -> list[_Part]:
        opened = files.open_all(self._path)
        number, offset = files.find(opened, position) if position else (0, 0)
        for file in opened[:number]:
            os.close(file.descriptor)
        return [_Part(file, 0 if at else offset) for at, file in enumerate(opened[number:])]

    def _unpack(self, packed: _Part) -> list[_Part]:
        return [packed._replace(file=packed.file.plain(self._directory))]

    def _open(self, tail: int | None, follow: bool) -> list[_Part]:
        """The files to read, oldest first. Files older than the tail are not unpacked."""
        opened = files.open_all(self._path)
        present = os.fstat(opened[-1].descriptor).st_size if opened else 0
        parts = self._open_tail(opened, present, tail) if tail is not None else [*map(_Part, opened)]
        if parts and not follow:
            parts[-1] = parts[-1]._replace(end=present)
        return parts

    def _open_tail(self, opened: list[LogFile], present: int, missing: int) -> list[_Part]:
        parts: list[_Part] = []
        try:
            while opened and (missing > 0 or not parts):
                file = opened.pop().plain(self._directory)
                size = os.fstat(file.descriptor).st_size if parts else present
                offset, found = self._format.tail(file.descriptor, size, missing)
                missing -= found
                parts.insert(0, _Part(file, offset))
        finally:
            for file in opened:
                os.close(file.descriptor)
        return parts

    async def _newer(self, descriptor: int) -> list[_Part]:
        """The files begun after this one."""
        own = os.fstat(descriptor)
        with contextlib.suppress(FileNotFoundError):
            present = os.stat(self._path)
            if (present.st_dev, present.st_ino) == (own.st_dev, own.st_ino):
                return []
        return await _owned(_close_all, self._open_newer, own)

    def _open_newer(self, own: os.stat_result) -> list[_Part]:
        return [_Part(file) for file in files.open_newer(self._path, own)]

    # --- one file

    async def _pieces(
        self, view: View, descriptor: int, offset: int, end: int | None
    ) -> AsyncGenerator[Piece, None]:
        """From `offset` to `end`, or the present end of a file: what is written meanwhile is for the next look."""
        if end is None:
            end = os.fstat(descriptor).st_size
        while offset < end:
            if end - offset >= _WORTH_A_WORKER and (
                spool := await self._spool(view, descriptor, offset, end)
            ):
                async with contextlib.aclosing(_spooled(spool, offset)) as spooled:
                    async for piece in spooled:
                        offset = piece.offset
                        yield piece
                return
            piece = read_piece(self._format, view, descriptor, offset, min(_STEP, end - offset))
            if piece.offset == offset:
                return
            offset = piece.offset
            yield piece
            await asyncio.sleep(0)

    async def _spool(self, view: View, descriptor: int, offset: int, end: int) -> _Spool | None:
        """A worker that does the same; None when there is none to be had at once."""
        if self._workers is None:
            return None
        reading, writing = _pipe()
        arguments = {"driver": self._driver, "view": list(view), "offset": offset, "end": end}
        job = await self._workers.begin_if_free(
            "sampan.logs.spool:spool_job", arguments, [descriptor, writing]
        )
        if job is None:
            os.close(reading)
            os.close(writing)
            return None
        return _Spool(job, reading, writing)


async def _spooled(spool: _Spool, offset: int) -> AsyncGenerator[Piece, None]:
    """What a worker decodes. Only the last piece tells the true offset; the others tell where it began."""
    job, reading, writing = spool
    try:
        while not job.done():
            if data := await _read_or(reading, job):
                yield Piece(data, offset, False)
        while data := _read_now(reading):
            yield Piece(data, offset, False)
        outcome = job.result()
        yield Piece(b"", outcome["offset"], outcome["over"])
    finally:
        job.cancel()
        os.close(reading)
        with contextlib.suppress(asyncio.CancelledError, SystemFailure):
            await job  # it lends our descriptors until it is over
        os.close(writing)


def _close_all(parts: list[_Part]) -> None:
    for part in parts:
        os.close(part.file.descriptor)


async def _owned(release: Callable[[T], None], function: Callable[..., T], *arguments: Any) -> T:
    """Run in a thread. When the caller is cancelled meanwhile, nobody gets what the thread makes: it is released."""
    job = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        job.add_done_callback(lambda job: None if job.exception() else release(job.result()))
        raise


def _pipe() -> tuple[int, int]:
    """A large pipe whose reading end does not block."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    with contextlib.suppress(PermissionError):
        fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, _PIPE)
    return reading, writing


def _read_now(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _PIPE)
    except BlockingIOError:
        return b""


async def _read_or(descriptor: int, other: asyncio.Future[Any]) -> bytes:
    """What there is to read, once there is something; empty when the other one was ready first."""
    await _readable_or(descriptor, other)
    return _read_now(descriptor)


async def _readable_or(descriptor: int, other: asyncio.Future[Any]) -> None:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, lambda: None if readable.done() else readable.set_result(None))
    try:
        await asyncio.wait({readable, other}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(descriptor)
