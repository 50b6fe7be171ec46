"""A log file that is rotated when it has reached its size: `path` → `path.1` → `path.2`…, compressed on request.

The present file's name never changes, and a reader that holds an old one open finds it complete: nothing is written
to a file after it was renamed.
"""

from __future__ import annotations

import os
import zlib

from sampan.linux import process

_MODE = 0o640
_CHUNK = 256 * 1024


class RotatingFile:
    """Appends whole entries; owns the descriptor and the compressing child."""

    def __init__(self, path: str, *, max_size: int, max_file: int, compress: bool) -> None:
        self._path = path
        self._max_size = max_size
        self._max_file = max_file
        self._compress = compress
        self._compressor: int | None = None
        self._descriptor = self._open(0)
        self._size = os.fstat(self._descriptor).st_size

    @property
    def room(self) -> int:
        """Bytes that may be appended before the file is full; a full one is rotated by the next append."""
        if self._max_size <= 0:
            return 1 << 62
        return self._max_size - self._size if self._size < self._max_size else self._max_size

    def append(self, data: bytes) -> None:
        """Write whole entries, rotating first when the file is full. Raises OSError (a full disk)."""
        if 0 < self._max_size <= self._size:
            self._rotate()
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]

    def reopen(self) -> None:
        """Open the path anew: someone else has renamed or removed the file."""
        os.close(self._descriptor)
        self._descriptor = self._open(0)
        self._size = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        os.close(self._descriptor)
        self._await_compressor()

    def _open(self, flags: int) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | flags, _MODE)

    def _rotate(self) -> None:
        if self._max_file < 2:
            os.ftruncate(self._descriptor, 0)
            self._size = 0
            return
        self._await_compressor()
        suffix = ".gz" if self._compress else ""
        for number in range(self._max_file - 2, 0, -1):
            _rename(f"{self._path}.{number}{suffix}", f"{self._path}.{number + 1}{suffix}")
        os.rename(self._path, f"{self._path}.1")
        os.close(self._descriptor)
        self._descriptor = self._open(os.O_TRUNC)
        self._size = 0
        if self._compress:
            self._compressor = _compress_in_child(f"{self._path}.1")

    def _await_compressor(self) -> None:
        if self._compressor is not None:
            os.waitpid(self._compressor, 0)
            self._compressor = None


def _rename(old: str, new: str) -> None:
    try:
        os.rename(old, new)
    except FileNotFoundError:
        pass


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


def compress(path: str) -> None:
    """Replace `path` by `path.gz`, which appears complete."""
    part = f"{path}.gz.part"
    encoder = zlib.compressobj(6, zlib.DEFLATED, 31)
    with open(path, "rb", buffering=0) as source, open(part, "wb", buffering=0) as target:
        os.fchmod(target.fileno(), _MODE)
        while chunk := source.read(_CHUNK):
            target.write(encoder.compress(chunk))
        target.write(encoder.flush())
    os.rename(part, f"{path}.gz")
    os.unlink(path)
