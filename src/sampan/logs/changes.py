"""Being told when something happens in a directory: one inotify queue for all of an event loop's readers.

A user has 128 queues (fs.inotify.max_user_instances), for all engines together; watches there are plenty of.
"""

from __future__ import annotations

import asyncio
import os
import weakref

from sampan.linux import inotify

_MASK = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM


class _Queue:
    """The queue of one loop; open while anybody watches."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._waiting: dict[int, list[asyncio.Event]] = {}
        """By watch."""

    def add(self, directory: str, event: asyncio.Event) -> int:
        if self._descriptor < 0:
            self._descriptor = inotify.open_queue()
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        try:
            watch = inotify.add_watch(self._descriptor, directory, _MASK)
        except BaseException:
            self._close_unless_wanted()
            raise
        self._waiting.setdefault(watch, []).append(event)
        return watch

    def remove(self, watch: int, event: asyncio.Event) -> None:
        events = self._waiting.get(watch)
        if events is None:
            return  # the directory went, and its watch with it
        events.remove(event)
        if not events:
            del self._waiting[watch]
            inotify.remove_watch(self._descriptor, watch)
        self._close_unless_wanted()

    def _read(self) -> None:
        for found in inotify.read_events(self._descriptor):
            if found.mask & inotify.IN_Q_OVERFLOW:
                for events in self._waiting.values():
                    _wake(events)
                continue
            _wake(self._waiting.get(found.watch, []))
            if found.mask & inotify.IN_IGNORED:
                self._waiting.pop(found.watch, None)
        self._close_unless_wanted()

    def _close_unless_wanted(self) -> None:
        if not self._waiting and self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def _wake(events: list[asyncio.Event]) -> None:
    for event in events:
        event.set()


_queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = weakref.WeakKeyDictionary()


class DirectoryChanges:
    """Something changed in `directory` since the last `wait` (or since this was made). `close` it."""

    def __init__(self, directory: str) -> None:
        """Raises OSError (no such directory)."""
        self._queue = _queues.setdefault(asyncio.get_running_loop(), _Queue())
        self._event = asyncio.Event()
        self._watch = self._queue.add(directory, self._event)

    async def wait(self, end: asyncio.Event | None) -> None:
        """Return at a change, or when `end` is set."""
        waiting = {asyncio.ensure_future(event.wait()) for event in (self._event, end) if event is not None}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        self._event.clear()

    def close(self) -> None:
        self._queue.remove(self._watch, self._event)
