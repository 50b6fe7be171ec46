"""Resolving hostile paths beneath a root descriptor with openat2 (Linux 5.6).

A path from a container, an image or a build context is data chosen by an attacker, and the tree it is looked
up in may change while we look (CVE-2018-15664, CVE-2021-30465: a directory swapped for a symbolic link
between check and use). So a path is never joined and checked as text: the kernel resolves it once, beneath a
root, and everything after that uses the descriptor it returned.

`in root`: absolute paths and `..` stay inside, as after chroot. What a *container's* path means.
`beneath`: absolute paths, absolute links and `..` that would leave are errors. What an *archive's* path must
satisfy.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from sampan.linux.libc import checked, libc, syscall

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
RESOLVE_CACHED = 0x20

SYS_OPENAT2 = 437
PROC_SUPER_MAGIC = 0x9FA0
OVERLAYFS_SUPER_MAGIC = 0x794C7630
TMPFS_MAGIC = 0x01021994
CGROUP2_SUPER_MAGIC = 0x63677270
SYSFS_MAGIC = 0x62656572

MAX_LINK_DEPTH = 40
"""Symbolic links followed in one walk before ELOOP, the kernel's own limit."""

_RETRIES = 128
"""openat2 gives up with EAGAIN when a rename anywhere raced a `..`; each retry is a fresh, safe attempt."""


class _OpenHow(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("flags", "mode", "resolve"))


_HOW_SIZE = ctypes.sizeof(_OpenHow)


def openat2(directory: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), always close-on-exec, retried when a concurrent rename made the kernel unsure."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    raw = os.fsencode(path)
    for _ in range(_RETRIES):
        try:
            return syscall(SYS_OPENAT2, directory, raw, ctypes.byref(how), _HOW_SIZE, filename=path)
        except BlockingIOError:
            continue
    raise OSError(errno.EAGAIN, "path kept changing while it was resolved", os.fsdecode(path))


def open_in_root(root: int, path: str | bytes, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open `path` as a process chrooted to the directory `root` would see it; magic links refused."""
    return openat2(root, path or ".", flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_beneath(root: int, path: str | bytes, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open `path`, which must lie beneath `root` in every step: else OSError EXDEV. Magic links refused."""
    return openat2(root, path or ".", flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)


def open_without_links(root: int, path: str | bytes, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Like `open_beneath`, but any symbolic link on the way or at the end is an error (ELOOP)."""
    return openat2(root, path or ".", flags, mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)


def reopen(descriptor: int, flags: int) -> int:
    """The same file opened again with other flags, whatever its path has become (needs our own /proc)."""
    return os.open(f"/proc/self/fd/{descriptor}", flags | os.O_CLOEXEC)


def descriptor_path(descriptor: int) -> str:
    """The path the kernel gives for a descriptor now: for messages, never for access."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


def make_directories(root: int, path: str, mode: int = 0o755, owner: tuple[int, int] | None = None) -> int:
    """Create the missing directories of `path` in root, and open the last one (O_PATH).

    Symbolic links inside the root are followed as after chroot, also dangling ones, whose targets are
    created: that is what `mkdir -p` in the container would need, and what Docker does for mount points.
    Raises NotADirectoryError when a file is in the way.
    """
    current = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    done: list[str] = []
    pending = [part for part in path.split("/") if part not in ("", ".")][::-1]
    links = 0
    try:
        while pending:
            part = pending.pop()
            if part == "..":
                done = done[:-1]
                current = _replace(current, open_in_root(root, "/".join(done), os.O_PATH | os.O_DIRECTORY))
                continue
            target = _link_target(current, part)
            if target is None:
                current = _replace(current, _enter(current, part, mode, owner))
                done.append(part)
                continue
            links += 1
            if links > MAX_LINK_DEPTH:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                done = []
                current = _replace(current, open_in_root(root, ".", os.O_PATH | os.O_DIRECTORY))
            pending.extend([step for step in target.split("/") if step not in ("", ".")][::-1])
        return current
    except BaseException:
        os.close(current)
        raise


def make_file(root: int, path: str, mode: int = 0o644) -> int:
    """Create `path` as an empty file in root unless something is there, with its directories; open it
    (O_PATH).

    For bind-mount targets. A dangling symbolic link at the end is followed inside the root.
    """
    directory, _, name = path.rstrip("/").rpartition("/")
    for _ in range(MAX_LINK_DEPTH):
        parent = make_directories(root, directory)
        try:
            target = _link_target(parent, name)
            if target is None:
                try:
                    os.close(
                        os.open(
                            name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=parent
                        )
                    )
                except FileExistsError:
                    pass
                return open_without_links(parent, name, os.O_PATH | os.O_NOFOLLOW)
        finally:
            os.close(parent)
        joined = target if target.startswith("/") else f"{directory}/{target}"
        directory, _, name = joined.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            return make_directories(root, joined)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new


def _link_target(directory: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # something else than a link
            return None
        raise


def _enter(directory: int, name: str, mode: int, owner: tuple[int, int] | None) -> int:
    # NO_SYMLINKS: whoever swaps in a link after `_link_target` looked gets ELOOP, not a way out
    # (CVE-2021-30465).
    try:
        return open_without_links(directory, name, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        pass
    try:
        os.mkdir(name, mode, dir_fd=directory)
        made = True
    except FileExistsError:
        made = False
    child = open_without_links(directory, name, os.O_PATH | os.O_DIRECTORY)
    if made and owner is not None:
        os.chown(f"/proc/self/fd/{child}", *owner)
    return child


class _StatFs(ctypes.Structure):
    """struct statfs; only the type is read, the tail is room enough for every architecture."""

    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_byte * 248))


def filesystem_type(descriptor: int) -> int:
    """The magic number of the file system that the descriptor's file is on (fstatfs)."""
    buffer = _StatFs()
    checked(libc.fstatfs(descriptor, ctypes.byref(buffer)))
    return int(buffer.f_type) & 0xFFFFFFFF


def open_procfs(path: str, flags: int) -> int:
    """Open `/proc/<path>`, and refuse unless it is a file of a genuine procfs, reached through no link.

    CVE-2019-16884, CVE-2019-19921: an image may mount or link something else over /proc, so that our writes
    (an LSM label, a sysctl) go nowhere, or into a file of its choice.
    """
    root = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if filesystem_type(root) != PROC_SUPER_MAGIC or os.fstat(root).st_ino != 1:
            raise PermissionError(errno.EPERM, "not the root of a procfs", "/proc")
        # "self" is a symbolic link of procfs's own: name the process, then forbid links and mounts on the
        # way.
        head, slash, rest = path.partition("/")
        plain = f"{os.getpid()}{slash}{rest}" if head == "self" else path
        resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
        return openat2(root, plain, flags, 0, resolve)
    finally:
        os.close(root)


def is_directory(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def absolute(path: str) -> str:
    """A path as seen from the root, as text: one slash in front, no dots, no slash at the end."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
