"""An archive entry from a file that exists: the counterpart of `write_entry`."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from sampan.archive.beneath import check_length
from sampan.archive.tarread import CHARACTER, DEVICE, DIRECTORY, FIFO, LINK, REGULAR, SYMLINK, Entry

if TYPE_CHECKING:
    from sampan.archive.tarwrite import TarWriter

_KINDS = {
    stat.S_IFREG: REGULAR,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: DEVICE,
    stat.S_IFIFO: FIFO,
}
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_REOPEN_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_HOLES_FROM = 1 << 20
"""Bytes of holes that make a file worth storing as sparse."""

_CARRIED = ("user.", "trusted.", "system.posix_acl_", "security.capability")
_NOT_CARRIED = ("user.overlay.", "trusted.overlay.")


class EntryReader:
    """Puts files into an archive, a file with several names once: the further names become hard links.

    Times are cut to multiples of `resolution_ns`; `mtime_ns` is the time of all instead.
    """

    def __init__(self, writer: TarWriter, resolution_ns: int = 1, mtime_ns: int | None = None) -> None:
        self._writer = writer
        self._mtime_ns = mtime_ns
        self._resolution_ns = resolution_ns
        self._linked: dict[tuple[int, int], str] = {}

    def add(self, directory: int, name: str, path: str, status: os.stat_result) -> None:
        """The file `name` of an open directory, as `path`; sockets are left out, as by every tar."""
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return
        check_length(path)
        entry = self.entry(path, kind, status)
        if status.st_nlink > 1 and kind != DIRECTORY:
            first = self._linked.setdefault((status.st_dev, status.st_ino), path)
            if first is not path:
                entry.kind, entry.link, entry.size = LINK, first, 0
                self._writer.add(entry)
                return
        if kind == REGULAR:
            # NOFOLLOW and NONBLOCK: the file may have become a link or a fifo since it was listed.
            self._add_file(os.open(name, _OPEN_FILE, dir_fd=directory), entry, status)
            return
        if kind == SYMLINK:
            entry.link = os.readlink(name, dir_fd=directory)
        elif kind == DIRECTORY:
            entry.name += "/"
        entry.xattrs = carried_xattrs(f"/proc/self/fd/{directory}/{name}")
        self._writer.add(entry)

    def entry(self, path: str, kind: str, status: os.stat_result) -> Entry:
        """What of a file's status goes into the archive; its data, link and attributes follow."""
        entry = _from_status(path, kind, status)
        if self._mtime_ns is not None:
            entry.mtime_ns = self._mtime_ns
        entry.mtime_ns -= entry.mtime_ns % self._resolution_ns
        return entry

    def add_descriptor(self, fd: int, path: str, status: os.stat_result) -> None:
        """The file that an O_PATH descriptor means, as `path`; sockets are left out."""
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return
        entry = self.entry(path, kind, status)
        if kind == REGULAR:
            self._add_file(os.open(f"/proc/self/fd/{fd}", _REOPEN_FILE), entry, status)
            return
        entry.xattrs = carried_xattrs(f"/proc/self/fd/{fd}")
        self._writer.add(entry)

    def _add_file(self, fd: int, entry: Entry, status: os.stat_result) -> None:
        """With the data of an open file, which is closed."""
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return
            entry.size = entry.real_size = status.st_size
            if status.st_size - status.st_blocks * 512 >= _HOLES_FROM:
                entry.sparse = _data_pieces(fd, status.st_size)
                entry.size = sum(length for _, length in entry.sparse)
            entry.xattrs = carried_xattrs(fd)
            self._writer.add(entry, fd)
        finally:
            os.close(fd)


def carried_xattrs(target: int | str) -> dict[str, bytes] | None:
    """The extended attributes that belong to the file and not to the machine (SELinux labels, overlay's marks)."""
    try:
        names = (
            os.listxattr(target) if isinstance(target, int) else os.listxattr(target, follow_symlinks=False)
        )
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOENT):
            return None
        raise
    found: dict[str, bytes] = {}
    for name in names:
        # A "=" can't stand in a pax key.
        if name.startswith(_CARRIED) and not name.startswith(_NOT_CARRIED) and "=" not in name:
            try:
                found[name] = (
                    os.getxattr(target, name)
                    if isinstance(target, int)
                    else os.getxattr(target, name, follow_symlinks=False)
                )
            except OSError:
                continue  # taken away meanwhile
    return found or None


def _from_status(path: str, kind: str, status: os.stat_result) -> Entry:
    entry = Entry()
    entry.name, entry.kind = path, kind
    entry.mode = 0o777 if kind == SYMLINK else stat.S_IMODE(status.st_mode)
    entry.uid, entry.gid = status.st_uid, status.st_gid
    entry.size = entry.real_size = 0
    entry.mtime_ns, entry.atime_ns = status.st_mtime_ns, None
    entry.link = ""
    entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    entry.xattrs = entry.sparse = None
    return entry


def _data_pieces(fd: int, size: int) -> list[tuple[int, int]]:
    pieces: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start >= at:
            break
        pieces.append((start, at - start))
    return pieces
