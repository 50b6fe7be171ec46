"""Making one entry of an archive real: file, link, device, directory, with all its attributes."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from sampan.archive.beneath import shown
from sampan.archive.tarread import CHARACTER, DEVICE, FIFO, REGULAR, SYMLINK
from sampan.errors import InvalidParameter, NotSupported

if TYPE_CHECKING:
    from sampan.archive.tarread import Entry, TarReader

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {CHARACTER: stat.S_IFCHR, DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_OVERLAY_MARKS = ("trusted.overlay.", "user.overlay.")


def write_file(directory: int, name: str, entry: Entry, reader: TarReader) -> None:
    """A regular file with its data. Raises FileExistsError when something is there: O_EXCL never follows a link."""
    # The umask is 0 in a job. Bits beyond 0777 only after the owner is set: chown clears them.
    fd = os.open(name, _NEW_FILE, entry.mode & 0o777, dir_fd=directory)
    try:
        if entry.sparse is not None:
            _write_sparse(fd, entry, reader)
        elif entry.size:
            write_data(fd, reader)
        os.fchown(fd, entry.uid, entry.gid)
        if entry.mode & 0o7000:
            os.fchmod(fd, entry.mode)
        if entry.xattrs:
            write_xattrs(fd, entry)
        os.utime(fd, ns=_times(entry))
    finally:
        os.close(fd)


def write_data(fd: int, reader: TarReader) -> None:
    """The current entry's data at the descriptor's position."""
    while view := reader.read_view():
        while view:
            view = view[os.write(fd, view) :]


def write_symlink(directory: int, name: str, entry: Entry) -> None:
    """A symbolic link; its target is only text."""
    if not entry.link:
        raise InvalidParameter(f"entry {shown(entry.name)}: symbolic link without a target")
    os.symlink(entry.link, name, dir_fd=directory)
    _finish_by_name(directory, name, entry)


def write_node(directory: int, name: str, entry: Entry) -> None:
    """A device or fifo."""
    device = os.makedev(entry.major, entry.minor) if entry.kind != FIFO else 0
    os.mknod(name, _KINDS[entry.kind] | entry.mode & 0o777, device, dir_fd=directory)
    _finish_by_name(directory, name, entry)


def write_directory_attributes(fd: int, entry: Entry) -> None:
    """Everything but the times, which come last of all."""
    os.fchown(fd, entry.uid, entry.gid)
    os.fchmod(fd, entry.mode)
    if entry.xattrs:
        write_xattrs(fd, entry)


def write_xattrs(target: int | str, entry: Entry) -> None:
    """The entry's extended attributes, except overlay's own marks.

    An archive that could set those would redirect a directory of the merged tree to any other in the layers below, or
    make files out of other layers' data: they are the snapshotter's alone.
    """
    for name, value in (entry.xattrs or {}).items():
        if name.startswith(_OVERLAY_MARKS):
            continue
        try:
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            # A file system without such attributes still gets the files, as with Docker.
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise InvalidParameter(
                    f"entry {shown(entry.name)}: attribute {shown(name)}: {error.strerror}"
                ) from error


def _write_sparse(fd: int, entry: Entry, reader: TarReader) -> None:
    os.ftruncate(fd, entry.real_size)
    rest = memoryview(b"")
    for offset, length in entry.sparse or ():
        while length:
            if not rest:
                rest = reader.read_view()
            written = os.pwrite(fd, rest[:length], offset)
            rest = rest[written:]
            offset += written
            length -= written


def _finish_by_name(directory: int, name: str, entry: Entry) -> None:
    os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
    if entry.kind != SYMLINK and entry.mode & 0o7000:
        _chmod(directory, name, entry.mode)
    if entry.xattrs:
        write_xattrs(f"/proc/self/fd/{directory}/{name}", entry)
    os.utime(name, ns=_times(entry), dir_fd=directory, follow_symlinks=False)


def _chmod(directory: int, name: str, mode: int) -> None:
    """Change the mode of the file itself: fchmodat follows links, and a container may just have swapped one in."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def _times(entry: Entry) -> tuple[int, int]:
    """(access, modification); an access before the last modification makes no sense."""
    accessed = entry.atime_ns if entry.atime_ns is not None else entry.mtime_ns
    return max(accessed, entry.mtime_ns), entry.mtime_ns


def check_kind(entry: Entry) -> None:
    """Raises NotSupported for what isn't a file-system object (multi-volume parts and the like)."""
    if entry.kind not in (REGULAR, SYMLINK, CHARACTER, DEVICE, FIFO, "1", "5"):
        raise NotSupported(f"entry {shown(entry.name)}: unhandled tar header type {entry.kind!r}")
