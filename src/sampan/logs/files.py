"""The files of one log: opened together, whatever rotates meanwhile, and found again by one that is held open."""

from __future__ import annotations

import fcntl
import os
import zlib
from typing import NamedTuple

from sampan.logs.rotation import HEADER_SIZE, inode_of_original, lock_names

_CHUNK = 256 * 1024


class LogFile(NamedTuple):
    """One file, open. `compressed` ones are to be unpacked with `plain` before they are read."""

    descriptor: int
    compressed: bool
    inode: int
    """Of the file that the shim wrote, also when this one was compressed or unpacked from it; 0 when nobody knows."""

    def plain(self, directory: str) -> LogFile:
        """This file's contents, unpacked into a nameless file in `directory` if need be. Slow; closes the packed one."""
        if not self.compressed:
            return self
        try:
            return LogFile(_unpack(self.descriptor, directory), False, self.inode)
        finally:
            os.close(self.descriptor)


class Position(NamedTuple):
    """A place in a log that outlives the process: which file, and how far in it."""

    inode: int
    head: str
    """The file's first bytes, in hex: an inode's number may be given to another file."""
    offset: int


_HEAD = 64


def position_in(file: LogFile, offset: int) -> Position:
    """The position at `offset` of an open, plain file."""
    return Position(file.inode, _head(file), offset)


def _head(file: LogFile) -> str:
    data = os.pread(file.descriptor, 4096 if file.compressed else _HEAD, 0)
    if file.compressed:
        data = zlib.decompressobj(31).decompress(data, _HEAD)
    return data.hex()


def find(opened: list[LogFile], position: Position) -> tuple[int, int]:
    """(number of the file among them, offset in it) of a position; (0, 0) when its file is gone."""
    for number, file in enumerate(opened):
        if file.inode != position.inode or not _head(file).startswith(position.head):
            continue
        if file.compressed or position.offset <= os.fstat(file.descriptor).st_size:
            return number, position.offset
    return 0, 0


def open_all(path: str) -> list[LogFile]:
    """All files of the log at `path`, oldest first; the present one is the last."""
    return open_newer(path, None)


def open_newer(path: str, own: os.stat_result | None) -> list[LogFile]:
    """The files begun after the one with status `own`, which is held open; all of them if that one has been removed."""
    try:
        lock = lock_names(path, fcntl.LOCK_SH)
    except FileNotFoundError:
        return []
    found: list[LogFile] = []
    try:
        for name in _names(path):
            file = _open(name)
            if own is not None and _is_same(file, own):
                os.close(file.descriptor)
                break
            found.insert(0, file)
    except BaseException:
        for file in found:
            os.close(file.descriptor)
        raise
    finally:
        if lock is not None:
            os.close(lock)
    return found


def _open(path: str) -> LogFile:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if path.endswith(".gz"):
        return LogFile(descriptor, True, inode_of_original(os.pread(descriptor, HEADER_SIZE, 0)) or 0)
    return LogFile(descriptor, False, os.fstat(descriptor).st_ino)


def _is_same(file: LogFile, own: os.stat_result) -> bool:
    # The caller holds it open, so that no other file can have got its inode.
    return file.inode == own.st_ino and os.fstat(file.descriptor).st_dev == own.st_dev


def _names(path: str) -> list[str]:
    """Paths that exist, newest first."""
    directory, base = os.path.split(path)
    names = set(os.listdir(directory))
    numbered: dict[int, str] = {}
    for name in names:
        number = name.removeprefix(base + ".").removesuffix(".gz")
        # Both forms exist when a compression was broken off between two steps: they hold the same.
        if name != base and number.isdigit() and (not name.endswith(".gz") or int(number) not in numbered):
            numbered[int(number)] = name
    ordered = [base] if base in names else []
    return [os.path.join(directory, name) for name in ordered + [numbered[n] for n in sorted(numbered)]]


def _unpack(packed: int, directory: str) -> int:
    plain = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        decoder = zlib.decompressobj(31)
        offset = 0
        while data := os.pread(packed, _CHUNK, offset):
            offset += len(data)
            view = memoryview(decoder.decompress(data))
            while view:
                view = view[os.write(plain, view) :]
    except BaseException:
        os.close(plain)
        raise
    return plain
