"""Reading a container's log while it is being written: tail, since, until, follow, across rotations.

::

    async for entries in LogReader("json-file", path).read(tail=100, follow=True, ended=container_ended):
        response.write(render(entries, framed=True))

Nothing is polled: following waits for inotify. Between batches other tasks get their turn.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.linux import inotify
from sampan.logs.entries import FORMATS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sampan.logs.entries import Entry, Format

_CHUNK = 256 * 1024


class _Part(NamedTuple):
    """An open file of the log, and where to begin in it."""

    descriptor: int
    offset: int


class LogReader:
    """One container's log files. Any number of reads at once; holds nothing between them."""

    def __init__(self, driver: str, path: str) -> None:
        self._format: Format = FORMATS[driver]
        self._path = path

    async def read(
        self,
        *,
        tail: int | None = None,
        since_ns: int = 0,
        until_ns: int | None = None,
        follow: bool = False,
        ended: asyncio.Event | None = None,
    ) -> AsyncIterator[list[Entry]]:
        """Entries in order, in batches. `tail`: only the last so many, before the times are looked at.

        With `follow` it goes on until `ended` is set and everything written by then was read, or until an
        entry is later than `until_ns`.
        """
        queue = self._watch() if follow else -1
        parts: list[_Part] = []
        try:
            parts = await asyncio.to_thread(self._open, tail)
            while parts:
                descriptor, offset = parts[0]
                last = len(parts) == 1
                while True:
                    # Asked before reading: what is written before the end is set is read after it.
                    over = ended is None or ended.is_set()
                    data = os.pread(descriptor, _CHUNK, offset)
                    size = self._format.complete(data)
                    if not size and len(data) == _CHUNK:
                        data = os.pread(descriptor, 64 * _CHUNK, offset)  # one very long entry
                        size = self._format.complete(data)
                    if size:
                        offset += size
                        entries = self._format.decode(data[:size])
                        wanted = [
                            e
                            for e in entries
                            if e.time_ns >= since_ns and (until_ns is None or e.time_ns <= until_ns)
                        ]
                        if wanted:
                            yield wanted
                        if until_ns is not None and entries and entries[-1].time_ns > until_ns:
                            return
                        await asyncio.sleep(0)
                        continue
                    if not (follow and last):
                        break
                    newer = self._newer_than(descriptor)
                    if newer:
                        parts.extend(newer)
                        break
                    if os.fstat(descriptor).st_size < offset:
                        offset = 0  # truncated: max-file is 1
                        continue
                    if over:
                        return
                    await self._changed(queue, ended)
                os.close(descriptor)
                parts.pop(0)
        finally:
            for part in parts:
                os.close(part.descriptor)
            if queue >= 0:
                os.close(queue)

    # --- files

    def _names(self) -> list[str]:
        """Paths that exist, oldest first."""
        directory, base = os.path.split(self._path)
        numbered: dict[int, str] = {}
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            return []
        for name in names:
            number = name.removeprefix(base + ".").removesuffix(".gz")
            # While a file is being compressed both forms exist: the complete one counts.
            if (
                name != base
                and number.isdigit()
                and (not name.endswith(".gz") or int(number) not in numbered)
            ):
                numbered[int(number)] = name
        ordered = [numbered[number] for number in sorted(numbered, reverse=True)]
        return [os.path.join(directory, name) for name in ordered] + ([self._path] if base in names else [])

    def _open(self, tail: int | None) -> list[_Part]:
        """The files to read, oldest first. Files older than the tail are not opened."""
        parts: list[_Part] = []
        missing = tail
        for path in reversed(self._names()):
            try:
                descriptor = _open_plain(path)
            except FileNotFoundError:
                continue  # rotated away meanwhile
            offset = 0
            if missing is not None:
                offset, found = self._format.tail(descriptor, missing)
                missing -= found
            parts.insert(0, _Part(descriptor, offset))
            if missing is not None and missing <= 0:
                break
        return parts

    def _newer_than(self, descriptor: int) -> list[_Part]:
        """Files begun after the one that is open, if it is no longer the present one."""
        own = os.fstat(descriptor)
        newer: list[_Part] = []
        for path in reversed(self._names()):
            try:
                status = os.stat(path)
                if (status.st_dev, status.st_ino) == (own.st_dev, own.st_ino):
                    return newer
                newer.insert(0, _Part(_open_plain(path), 0))
            except FileNotFoundError:
                continue
        # Ours was compressed or removed: of what there is only the present file is surely unread.
        for part in newer[:-1]:
            os.close(part.descriptor)
        return newer[-1:]

    # --- waiting

    def _watch(self) -> int:
        queue = inotify.open_queue()
        try:
            mask = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM
            inotify.add_watch(queue, os.path.dirname(self._path), mask)
        except BaseException:
            os.close(queue)
            raise
        return queue

    async def _changed(self, queue: int, ended: asyncio.Event | None) -> None:
        """Wait for the directory to change, or for the end."""
        loop = asyncio.get_running_loop()
        event: asyncio.Future[None] = loop.create_future()
        loop.add_reader(queue, lambda: None if event.done() else event.set_result(None))
        end = asyncio.ensure_future(ended.wait()) if ended is not None else None
        try:
            waited: list[asyncio.Future[Any]] = [event] if end is None else [event, end]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(queue)
            if end is not None:
                end.cancel()
        inotify.read_events(queue)


def _open_plain(path: str) -> int:
    """A descriptor of the file's plain contents; a compressed one is unpacked into a nameless file beside it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if not path.endswith(".gz"):
        return descriptor
    try:
        plain = os.open(os.path.dirname(path), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        decoder = zlib.decompressobj(31)
        while data := os.read(descriptor, _CHUNK):
            view = memoryview(decoder.decompress(data))
            while view:
                view = view[os.write(plain, view) :]
        return plain
    finally:
        os.close(descriptor)
