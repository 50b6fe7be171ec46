"""A registry in a local directory, as distribution's `filesystem` driver has it. Files appear whole and outlive a power failure."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sampan.registryserver.storage import Partial, Stored

_READ = 1 << 20
_SETTLED_NS = 2_000_000_000
"""Nanoseconds after a directory's change from which its time tells it from the next one: clocks of file systems are coarse."""


class LocalStorage:
    """A `Storage`."""

    has_stamps = True
    chunk_min = 1

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held while a blob is found and made fresh, and while it is looked at once more and removed. Between programs the grace
        period does that, of which freshness is at most a part."""

    def prepare(self, directories: list[Path]) -> None:
        for directory in directories:
            directory.mkdir(parents=True, exist_ok=True)

    def healthy(self, directory: Path) -> str:
        return "" if directory.is_dir() else f"{directory}: not there"

    def read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync(path.parent)

    def status(self, path: Path) -> Stored | None:
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stored(found.st_size, found.st_mtime)

    def remove(self, path: Path, upto: Path) -> bool:
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        for parent in path.parents:
            if parent == upto or upto not in parent.parents:
                break
            try:
                parent.rmdir()
            except OSError:
                break
        return True

    def remove_tree(self, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)

    def names(self, directory: Path) -> list[str]:
        try:  # hidden ones are files on their way
            return sorted(name for name in os.listdir(directory) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def stamp(self, directory: str) -> str:
        before = time.time_ns()
        try:
            found = os.stat(directory)
        except OSError:
            return ""
        settled = abs(before - found.st_mtime_ns) > _SETTLED_NS
        return f"{found.st_dev}:{found.st_ino}:{found.st_mtime_ns}" if settled else ""

    def linked(self, directory: Path, suffix: str, among: list[str] | None = None) -> list[str]:
        names = self.names(directory) if among is None else sorted(among)
        return [name for name in names if os.path.exists(f"{directory}/{name}/{suffix}")]

    def fresh(self, blob: Path, within: float) -> Stored | None:
        with self.lock:
            found = self.status(blob)
            if found is not None and time.time() - found.modified > within:
                try:
                    os.utime(blob)
                except OSError:
                    pass  # a read-only disk has no collector either
            return found

    def put_blob(self, blob: Path, data: bytes) -> None:
        if self.fresh(blob, 0) is None:
            self.write(blob, data)

    def remove_stale(self, blob: Path, age: float, *, dry_run: bool) -> int:
        with self.lock:
            found = self.status(blob)
            if found is None or time.time() - found.modified < age:
                return -1
            if not dry_run:
                blob.unlink()
                try:
                    blob.parent.rmdir()
                except OSError:
                    pass  # a partial file of a killed program is in it
        return found.size

    def upload(self, directory: Path) -> Partial:
        directory.mkdir(parents=True)
        (directory / "startedat").write_text(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        return _PartialFile(directory, self)

    def find_upload(self, directory: Path) -> Partial | None:
        return _PartialFile(directory, self) if directory.is_dir() else None

    def upload_age(self, directory: Path) -> float:
        times = [found.modified for path in (directory, directory / "data") if (found := self.status(path))]
        return time.time() - max(times, default=0)

    @contextmanager
    def lease(self, directory: Path) -> Iterator[bool]:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)

    def local(self, blob: Path) -> Path | None:
        return blob

    def address(self, blob: Path) -> str:
        return ""

    def chunks(self, blob: Path, start: int, count: int) -> AsyncIterator[bytes]:
        raise AssertionError("a local blob is sent from its file")


class _PartialFile:
    """A `Partial`: the file `data`, which distribution's own uploads have too."""

    def __init__(self, directory: Path, storage: LocalStorage) -> None:
        self._path = directory / "data"
        self._storage = storage
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(self._file).st_size

    @property
    def size(self) -> int:
        return self._size

    def append(self, data: bytes | bytearray) -> None:
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self._file, rest, self._size)
            self._size += count
            rest = rest[count:]

    def keep(self) -> None:
        """The file has it, and outlives a program that is killed; only power failure is for `publish` to stand."""

    def reload(self) -> bool:
        self._size = os.fstat(self._file).st_size
        return self._path.exists()

    def read(self) -> Iterator[bytes]:
        at = 0
        while data := os.pread(self._file, _READ, at):
            yield data
            at += len(data)

    def publish(self, blob: Path) -> None:
        os.fsync(self._file)
        blob.parent.mkdir(parents=True, exist_ok=True)
        with self._storage.lock:
            stored = blob.exists()
            if stored:
                os.utime(blob)  # somebody else stored it: it is fresh again for the collector
            else:
                blob.parent.mkdir(parents=True, exist_ok=True)  # the collector may just have taken it away
                os.rename(self._path, blob)
        if not stored:
            _sync(blob.parent)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _sync(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
