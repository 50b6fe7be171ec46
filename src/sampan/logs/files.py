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

    def plain(self, directory: str) -> LogFile:
        """This file's contents, unpacked into a nameless file in `directory` if need be. Slow; closes the packed one."""
        if not self.compressed:
            return self
        try:
            return LogFile(_unpack(self.descriptor, directory), False)
        finally:
            os.close(self.descriptor)


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
            file = LogFile(os.open(name, os.O_RDONLY | os.O_CLOEXEC), name.endswith(".gz"))
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


def _is_same(file: LogFile, own: os.stat_result) -> bool:
    # The caller holds it open, so that no other file can have got its inode.
    status = os.fstat(file.descriptor)
    if status.st_dev != own.st_dev:
        return False
    if file.compressed:
        return inode_of_original(os.pread(file.descriptor, HEADER_SIZE, 0)) == own.st_ino
    return status.st_ino == own.st_ino


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
