"""tmpcopyup: a tmpfs that begins as a copy of the image's directory beneath it."""

from __future__ import annotations

import os
import stat

from sampan.linux import path as paths

_CHUNK = 1 << 20


def copy_tree(source: int, target: int) -> None:
    """Copy the content of directory `source` into directory `target`, with owners, modes, times and xattrs.

    Either may be an O_PATH descriptor.
    Every step is relative to a descriptor and follows no link (CVE-2018-15664, CVE-2022-23648: a link inside
    the image made such a copy read files of the host).
    """
    source = paths.open_without_links(source, ".", os.O_RDONLY | os.O_DIRECTORY)
    target = paths.open_without_links(target, ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        _copy_entries(source, target)
        _copy_metadata(source, target)
    finally:
        os.close(source)
        os.close(target)


def _copy_entries(source: int, target: int) -> None:
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            _copy_directory(source, target, name)
        elif stat.S_ISREG(status.st_mode):
            _copy_file(source, target, name)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)


def _copy_directory(source: int, target: int, name: str) -> None:
    os.mkdir(name, 0o700, dir_fd=target)
    inner_source = paths.open_without_links(source, name, os.O_RDONLY | os.O_DIRECTORY)
    inner_target = paths.open_without_links(target, name, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _copy_entries(inner_source, inner_target)
        _copy_metadata(inner_source, inner_target)
    finally:
        os.close(inner_source)
        os.close(inner_target)


def _copy_file(source: int, target: int, name: str) -> None:
    reading = paths.open_without_links(source, name, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
    try:
        while os.sendfile(writing, reading, None, _CHUNK):
            pass
        _copy_metadata(reading, writing)
    finally:
        os.close(reading)
        os.close(writing)


def _copy_metadata(source: int, target: int) -> None:
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for attribute in os.listxattr(source):
        try:
            os.setxattr(target, attribute, os.getxattr(source, attribute))
        except OSError:
            # tmpfs keeps fewer kinds of attributes than a disk; what it cannot hold is left out, as cp does.
            continue
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
