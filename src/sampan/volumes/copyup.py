"""The first content of a volume: a copy of what the image has at the place where the volume is mounted.

Runs in a worker, on two directory descriptors. Every step is relative to a descriptor and follows no link: an image's
links must not make the copy read or write files of the host (CVE-2018-15664, CVE-2022-23648).
"""

from __future__ import annotations

import errno
import os
import stat

from sampan.linux.trees import remove_tree

_CHUNK = 1 << 30
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GROWING = ".sampan-copy-growing"
_COMPLETE = ".sampan-copy-complete"


def copy_up(source: int, volume: int) -> bool:
    """Copy the content of directory `source` into the empty directory `volume`, which takes over owner, mode and
    extended attributes of the source itself. Hard links, holes, devices, sockets and times are kept.

    False: the volume has content already, and nothing was done. Raises OSError; the volume is empty again then.

    Half a copy would pass for a volume that has content, for ever. So the copy grows in a directory of its own within the
    volume, which gets another name when it is complete; then its entries move up. `finish_copy` takes up what a kill left.
    """
    source = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)
    volume = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=volume)
    try:
        _finish(volume)
        if os.listdir(volume):
            return False
        try:
            _fill(source, volume)
        except BaseException:
            if _GROWING in os.listdir(volume):
                remove_tree(volume, _GROWING)
            raise
        _move_up(volume)
    finally:
        os.close(source)
        os.close(volume)
    return True


def finish_copy(volume: str) -> None:
    """Finish or undo a copy into the directory `volume` whose worker was killed. Cheap when there was none."""
    if not any(os.path.lexists(os.path.join(volume, name)) for name in (_GROWING, _COMPLETE)):
        return
    descriptor = os.open(volume, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _finish(descriptor)
    finally:
        os.close(descriptor)


def _finish(volume: int) -> None:
    names = os.listdir(volume)
    if _GROWING in names:
        remove_tree(volume, _GROWING)
    if _COMPLETE in names:
        _move_up(volume)


def _fill(source: int, volume: int) -> None:
    os.mkdir(_GROWING, 0o700, dir_fd=volume)
    growing = os.open(_GROWING, _DIRECTORY, dir_fd=volume)
    try:
        _Copy(growing).directory(source, growing, "")
    finally:
        os.close(growing)
    os.rename(_GROWING, _COMPLETE, src_dir_fd=volume, dst_dir_fd=volume)


def _move_up(volume: int) -> None:
    """The entries of the complete copy to where they belong, but for what somebody has put there meanwhile; then its metadata."""
    complete = os.open(_COMPLETE, _DIRECTORY, dir_fd=volume)
    try:
        status = os.fstat(complete)
        present = set(os.listdir(volume))
        for name in os.listdir(complete):
            if name not in present:
                os.rename(name, name, src_dir_fd=complete, dst_dir_fd=volume)
        _copy_metadata(complete, volume, status)
    finally:
        os.close(complete)
    remove_tree(volume, _COMPLETE)  # which changes the volume's times once more
    os.utime(volume, ns=(status.st_atime_ns, status.st_mtime_ns))


class _Copy:
    """One copy: what it must remember is where files with several names were put."""

    def __init__(self, volume: int) -> None:
        self._volume = volume
        self._first_names: dict[tuple[int, int], str] = {}

    def directory(self, source: int, target: int, place: str) -> None:
        """Fill `target` from `source`; `place` is its path within the volume. Times last: filling changes them."""
        for name in os.listdir(source):
            self._entry(source, target, name, os.path.join(place, name))
        _copy_metadata(source, target, os.fstat(source))

    def _entry(self, source: int, target: int, name: str, place: str) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=target)
            self._descend(source, target, name, place)
            return
        identity = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and identity in self._first_names:
            # The first name is one that this copy made, in a volume that no container has yet: it is no link of others'.
            os.link(
                self._first_names[identity],
                name,
                src_dir_fd=self._volume,
                dst_dir_fd=target,
                follow_symlinks=False,
            )
            return
        if kind == stat.S_IFREG:
            _copy_file(source, target, name)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        if kind != stat.S_IFREG:
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
            if kind != stat.S_IFLNK:
                os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)  # mknod applied the umask
            _copy_link_times(target, name, status)
        if status.st_nlink > 1:
            self._first_names[identity] = place

    def _descend(self, source: int, target: int, name: str, place: str) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        inner_source = os.open(name, flags, dir_fd=source)
        try:
            inner_target = os.open(name, flags, dir_fd=target)
            try:
                self.directory(inner_source, inner_target, place)
            finally:
                os.close(inner_target)
        finally:
            os.close(inner_source)


def _copy_file(source: int, target: int, name: str) -> None:
    # O_NONBLOCK: should the name have become a fifo, opening it must not wait for a writer.
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        status = os.fstat(reading)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writing = os.open(name, flags, 0o600, dir_fd=target)
        try:
            _copy_data(reading, writing, status.st_size)
            _copy_metadata(reading, writing, status)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_data(reading: int, writing: int, size: int) -> None:
    """The data without the holes."""
    position = 0
    while position < size:
        try:
            start = os.lseek(reading, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole is left
        end = os.lseek(reading, start, os.SEEK_HOLE)
        os.lseek(reading, start, os.SEEK_SET)
        os.lseek(writing, start, os.SEEK_SET)
        while start < end:
            copied = os.sendfile(writing, reading, start, min(end - start, _CHUNK))
            if copied == 0:
                return  # the file has become shorter
            start += copied
        position = end
    os.ftruncate(writing, size)


def _copy_metadata(source: int, target: int, status: os.stat_result) -> None:
    """Owner before attributes and mode: a change of owner clears capabilities and set-id bits."""
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for attribute in os.listxattr(source):
        try:
            os.setxattr(target, attribute, os.getxattr(source, attribute))
        except OSError as error:
            # overlay's own and what the volume's file system cannot hold stay behind, as with cp -a.
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENODATA):
                raise
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_link_times(target: int, name: str, status: os.stat_result) -> None:
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)
