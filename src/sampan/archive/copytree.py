"""Copying a tree exactly: owners, modes, times to the nanosecond, xattrs, hard links, devices, holes.

For trees of our own (committed snapshots, a volume's first content). Nothing is resolved through a link all the
same: every step is relative to an open directory, so that not even a tree that changes meanwhile leads elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from sampan.linux.files import clone_file

if TYPE_CHECKING:
    from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 64 << 20
_SMALL = 32 << 10
"""Bytes below which sharing blocks and keeping holes gain nothing."""


def copy_tree(source: str | Path, target: str | Path) -> None:
    """Copy what is in `source` into the existing, empty directory `target`, and its attributes onto it.

    Raises OSError as the kernel does (ENOSPC, EACCES…), with what was copied so far left in place.
    """
    source_fd = os.open(source, _DIRECTORY)
    try:
        target_fd = os.open(target, _DIRECTORY)
        try:
            _Copy(target_fd).directory(source_fd, target_fd, "")
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


class _Level(NamedTuple):
    """A directory that is being copied, and what of it is still to do."""

    source: int
    target: int
    path: str
    names: list[str]

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)


class _Copy:
    """One run: remembers the first copy of each file that has several names."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._linked: dict[tuple[int, int], str] = {}

    def directory(self, source: int, target: int, path: str) -> None:
        """Without recursion: trees are deeper than Python's stack. The attributes of a directory come after what is in it."""
        levels = [_Level(source, target, path, os.listdir(source))]
        try:
            while levels:
                level = levels[-1]
                if level.names:
                    inner = self._entry(level, level.names.pop())
                    if inner is not None:
                        levels.append(inner)
                    continue
                copy_attributes(level.source, level.target, os.fstat(level.source))
                levels.pop()
                if levels:  # the outermost descriptors are the caller's
                    level.close()
        finally:
            for level in levels[1:]:
                level.close()

    def _entry(self, level: _Level, name: str) -> _Level | None:
        """Copy a file; make a directory, whose content is the next level."""
        status = os.lstat(name, dir_fd=level.source)
        inner = f"{level.path}/{name}" if level.path else name
        if not stat.S_ISDIR(status.st_mode):
            if not self._link(status, level.target, name, inner):
                _copy_entry(level.source, level.target, name, status)
            return None
        source = os.open(name, _DIRECTORY, dir_fd=level.source)
        try:
            os.mkdir(name, 0o700, dir_fd=level.target)
            target = os.open(name, _DIRECTORY, dir_fd=level.target)
        except BaseException:
            os.close(source)
            raise
        return _Level(source, target, inner, os.listdir(source))

    def _link(self, status: os.stat_result, target: int, name: str, path: str) -> bool:
        if status.st_nlink < 2:
            return False
        first = self._linked.setdefault((status.st_dev, status.st_ino), path)
        if first is path:
            return False
        os.link(first, name, src_dir_fd=self._root, dst_dir_fd=target, follow_symlinks=False)
        return True


def _copy_entry(source: int, target: int, name: str, status: os.stat_result) -> None:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        _copy_file(source, target, name, status)
        return
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    elif stat.S_ISSOCK(mode):
        return  # a socket without its process is of no use to anybody; tar leaves it out too
    else:
        os.mknod(name, mode, status.st_rdev, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        os.chmod(name, stat.S_IMODE(mode), dir_fd=target)
    _copy_xattrs(f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}")
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def _copy_file(source: int, target: int, name: str, status: os.stat_result) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writer = os.open(name, flags, 0o600, dir_fd=target)
        try:
            copy_content(reader, writer, status.st_size)
            copy_attributes(reader, writer, status)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def copy_content(reader: int, writer: int, size: int) -> None:
    """Copy a file's bytes within the kernel, sharing blocks where possible and keeping holes.

    What is small goes through a buffer: two system calls instead of five.
    """
    if size == 0 or (size <= _SMALL and _copied(reader, writer, size)) or clone_file(writer, reader):
        return
    os.ftruncate(writer, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(reader, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole to the end
            raise
        end = os.lseek(reader, at, os.SEEK_HOLE)
        while at < end:
            count = _copy_range(reader, writer, min(_CHUNK, end - at), at)
            if count == 0:
                return
            at += count


def _copied(reader: int, writer: int, size: int) -> bool:
    """Whether all of it could be written at once; nothing is, when it is not all there."""
    data = os.pread(reader, size, 0)
    return len(data) == size and os.pwrite(writer, data, 0) == size


def copy_attributes(source: int, target: int, status: os.stat_result) -> None:
    """Owner, then mode, then xattrs (a capability is dropped by chown), then times."""
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    _copy_xattrs(source, target)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_range(reader: int, writer: int, count: int, at: int) -> int:
    try:
        return os.copy_file_range(reader, writer, count, at, at)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    return os.pwrite(writer, os.pread(reader, min(count, 1 << 20), at), at)


def _copy_xattrs(source: int | str, target: int | str) -> None:
    """Paths are `/proc/self/fd/N/name`: the last component is not followed."""
    if isinstance(source, int) or isinstance(target, int):
        for name in os.listxattr(source):
            os.setxattr(target, name, os.getxattr(source, name))
        return
    for name in os.listxattr(source, follow_symlinks=False):
        os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
