"""A log file that is rotated when it has reached its size: `path` → `path.1` → `path.2`…, compressed on request.

The present file's name never changes, and a reader that holds an old one open finds it complete: nothing is written
to a file after it was renamed or removed. Names change under a lock on the directory, which readers share while they open
the files: none is missed and none opened twice. A compressed file says in its header which file it was made of.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
import zlib

from sampan.linux import process

_MODE = 0o640
_CHUNK = 256 * 1024
_FRESH = ".next"
"""The name of a file until the others have moved on."""
_PATIENCE = 1.0
"""Seconds that a container waits for a reader which opens the files; a stopped reader must not stop containers."""


class RotatingFile:
    """Appends whole entries; owns the descriptor and the compressing child."""

    def __init__(self, path: str, *, max_size: int, max_file: int, compress: bool) -> None:
        self._path = path
        self._max_size = max_size
        self._max_file = max_file
        self._compress = compress
        self._compressor: int | None = None
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size

    @property
    def room(self) -> int:
        """Bytes that may be appended before the file is full; a full one is rotated by the next append."""
        if self._max_size <= 0:
            return 1 << 62
        return self._max_size - self._size if self._size < self._max_size else self._max_size

    def append(self, data: bytes) -> None:
        """Write whole entries, rotating first when the file is full. Raises OSError (a full disk); then none was written."""
        if 0 < self._max_size <= self._size:
            self._rotate_unless_read()
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            if len(view) < len(data):  # a part of an entry would make the next one unreadable
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - (len(data) - len(view)))
            raise
        self._size += len(data)

    def reopen(self) -> None:
        """Open the path anew: someone else has renamed or removed the file. Raises OSError; then the old one stays open."""
        self._exchange(self._open())

    def _exchange(self, descriptor: int) -> None:
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def close(self) -> None:
        os.close(self._descriptor)
        self._await_compressor()

    def _open(self, flags: int = 0, suffix: str = "") -> int:
        flags |= os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._path + suffix, flags, _MODE)

    def _rotate_unless_read(self) -> None:
        """Rotate, or put it off for an append when somebody is opening the files, or there is no room for another."""
        self._await_compressor()
        lock = lock_names(self._path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is None and self._size < 2 * self._max_size:
            return
        deadline = time.monotonic() + _PATIENCE
        while lock is None and time.monotonic() < deadline:
            time.sleep(0.001)
            lock = lock_names(self._path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fresh = self._open(os.O_TRUNC, _FRESH)
        except OSError:
            return
        else:
            self._rotate(fresh)
        finally:
            if lock is not None:
                os.close(lock)
        if self._compress and self._max_file > 1:
            self._compressor = _compress_in_child(f"{self._path}.1")

    def _rotate(self, fresh: int) -> None:
        """`fresh` is the file that follows, by its first name."""
        if self._max_file > 1:
            # A compression that was broken off has left the plain form of a file.
            for suffix in ("", ".gz"):
                _unlink(f"{self._path}.{self._max_file - 1}{suffix}")
                for number in range(self._max_file - 2, 0, -1):
                    _rename(f"{self._path}.{number}{suffix}", f"{self._path}.{number + 1}{suffix}")
            _rename(self._path, f"{self._path}.1")
        # The old one is not truncated: who reads it keeps it to its end.
        os.rename(f"{self._path}{_FRESH}", self._path)
        self._exchange(fresh)

    def _await_compressor(self) -> None:
        if self._compressor is not None:
            os.waitpid(self._compressor, 0)
            self._compressor = None


def lock_names(path: str, operation: int) -> int | None:
    """flock(2) the directory of a log; the descriptor to close, or None when LOCK_NB would have to wait."""
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, operation)
    except BlockingIOError:
        os.close(directory)
        return None
    except BaseException:
        os.close(directory)
        raise
    return directory


def _rename(old: str, new: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rename(old, new)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _compress_in_child(path: str) -> int:
    """Fork a process that replaces `path` by `path.gz`; its pid. The log goes on meanwhile."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        process.close_range(3)
        os.nice(10)
        compress(path)
        status = 0
    finally:
        os._exit(status)


# RFC 1952: an extra field of ours, with the inode of the file that was compressed.
_HEADER = struct.Struct("<2sBBIBBH2sHQ")
_EXTRA = b"SP"


def compress(path: str) -> None:
    """Replace `path` by `path.gz`, which appears complete. Raises OSError (a full disk); then `path` stays as it is."""
    part = f"{path}.gz.part"
    try:
        _write_compressed(path, part)
    except OSError:
        _unlink(part)
        raise
    lock = lock_names(path, fcntl.LOCK_EX)
    os.rename(part, f"{path}.gz")
    os.unlink(path)
    if lock is not None:
        os.close(lock)


def _write_compressed(path: str, part: str) -> None:
    encoder = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    checksum = size = 0
    with open(path, "rb", buffering=0) as source, open(part, "wb") as target:
        os.fchmod(target.fileno(), _MODE)
        inode = os.fstat(source.fileno()).st_ino
        target.write(_HEADER.pack(b"\x1f\x8b", 8, 4, 0, 0, 3, 12, _EXTRA, 8, inode))
        while chunk := source.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
            size += len(chunk)
            target.write(encoder.compress(chunk))
        target.write(encoder.flush() + struct.pack("<II", checksum, size & 0xFFFFFFFF))


def inode_of_original(header: bytes) -> int | None:
    """The inode of the file that a compressed one was made of, from its first bytes; None if it was not ours."""
    if len(header) < _HEADER.size:
        return None
    fields = _HEADER.unpack_from(header)
    return int(fields[9]) if fields[2] == 4 and fields[7] == _EXTRA else None


HEADER_SIZE = _HEADER.size
