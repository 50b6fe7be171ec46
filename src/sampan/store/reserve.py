"""Room on the disk that the database has before it needs it: on a full disk rows must still go, or nothing could be freed.

SQLite writes every change to its log first, and copies the log into the file when it has 1,000 pages. So blocks for a whole log
and some growth of the file are allocated beyond the ends of both: their sizes do not change, and SQLite knows nothing of it.
While no engine runs there is no log; another file keeps its place, and some more that the next start needs.

Not on file systems without fallocate(2), where a full disk must be made room on by hand.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sampan.errors import no_room
from sampan.linux import files

log = logging.getLogger(__name__)

LOG_BYTES = 8 << 20
"""Twice what makes SQLite copy its log into the file."""
FILE_BYTES = 1 << 20
INDEX_BYTES = 64 << 10
"""Of the log's index, which SQLite maps: where blocks are smaller than pages, writing to a hole on a full disk is SIGBUS."""
START_BYTES = 256 << 10
_COMMITS = 64
"""Between two looks: the file grows by some pages with each."""


class Reserve:
    """Of the database at `path`. Its methods are quick; call them one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = Path(f"{path}-reserve")
        self._descriptors: list[int] = []
        """Of the file and its log. Kept: closing any descriptor of the file would drop SQLite's locks on it (fcntl(2))."""
        self._commits = 0
        self._told = False

    def take_over(self) -> None:
        """Before the database is opened: make room for it. Raises OSError."""
        self._place.unlink(missing_ok=True)

    def begin(self) -> None:
        """When it is open. Raises OSError when there is no room for what it must have."""
        for suffix in ("", "-wal", "-shm"):
            self._descriptors.append(os.open(f"{self._path}{suffix}", os.O_RDWR | os.O_CLOEXEC))
        try:
            _allocate(self._descriptors[2], INDEX_BYTES)
        except OSError as error:
            if no_room(error):
                raise
        self._hold()

    def _hold(self) -> None:
        """Allocate what is not yet. Once there is no room, a warning says so, and each call tries again."""
        file, wal, _ = self._descriptors
        try:
            _allocate(wal, LOG_BYTES)
            _allocate(file, os.fstat(file).st_size + FILE_BYTES)
        except OSError as error:
            if no_room(error) and not self._told:
                self._told = True
                log.warning(
                    "no room to reserve for %s: with a full disk nothing could be removed", self._path
                )
        else:
            self._told = False

    def committed(self) -> None:
        """After each commit; now and then, what has been used is allocated anew."""
        self._commits += 1
        if self._commits >= _COMMITS:
            self._commits = 0
            self._hold()

    def settle(self) -> None:
        """When the engine has what its start needed: keep as much for the next one, should this one be killed."""
        self._keep_place(START_BYTES)

    def end(self) -> None:
        """When the database is closed: keep the room for the next engine."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._keep_place(START_BYTES + LOG_BYTES)

    def _keep_place(self, size: int) -> None:
        try:
            descriptor = os.open(self._place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _allocate(descriptor, size)
            finally:
                os.close(descriptor)
        except OSError:
            return  # what it has got is better than nothing


def _allocate(descriptor: int, end: int) -> None:
    try:
        files.allocate_beyond_end(descriptor, end)
    except OSError as error:
        if not no_room(error):
            raise
        os.fsync(
            descriptor
        )  # what a journalling file system has just freed can be used when that is on the disk
        files.allocate_beyond_end(descriptor, end)
