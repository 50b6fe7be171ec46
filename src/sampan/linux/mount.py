"""Mounting: the classic call, and the descriptor-based API (Linux 5.2, mount_setattr 5.12) that needs no
paths.

Prefer the descriptor API wherever a path can be raced: `open_tree(…, OPEN_TREE_CLONE)`, adjust the detached
clone with `mount_setattr`, then `move_mount` it onto an open descriptor of the target.
"""

from __future__ import annotations

import ctypes
import os

from sampan.linux.libc import checked, libc, syscall, syscall_number

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_FORCE = 1
MNT_DETACH = 2
MNT_EXPIRE = 4
UMOUNT_NOFOLLOW = 8

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
AT_NO_AUTOMOUNT = 0x800

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC

MOVE_MOUNT_F_SYMLINKS = 0x01
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_SYMLINKS = 0x10
MOVE_MOUNT_T_EMPTY_PATH = 0x40

FSOPEN_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_BINARY = 2
FSCONFIG_SET_PATH = 3
FSCONFIG_SET_PATH_EMPTY = 4
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7
FSMOUNT_CLOEXEC = 1

SYS_OPEN_TREE = 428
SYS_MOVE_MOUNT = 429
SYS_FSOPEN = 430
SYS_FSCONFIG = 431
SYS_FSMOUNT = 432
SYS_FSPICK = 433
SYS_MOUNT_SETATTR = 442

Path = str | bytes


def _c_path(path: Path | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def mount(
    source: Path | None, target: Path, fstype: str | None, flags: int = 0, data: Path | None = None
) -> None:
    """mount(2). `data` is the file system's option string (at most a page; use fsconfig beyond)."""
    result = libc.mount(
        _c_path(source), _c_path(target), _c_path(fstype), ctypes.c_ulong(flags), _c_path(data)
    )
    checked(result, target)


def umount(target: Path, flags: int = 0) -> None:
    """umount2(2)."""
    checked(libc.umount2(_c_path(target), ctypes.c_int(flags)), target)


def pivot_root(new_root: Path, put_old: Path) -> None:
    """pivot_root(2); `("." , ".")` with the working directory at the new root stacks the old one beneath
    it.
    """
    syscall(syscall_number("pivot_root"), _c_path(new_root), _c_path(put_old), filename=new_root)


def open_tree(directory: int, path: Path, flags: int = 0) -> int:
    """A descriptor of a mount (sub)tree; with OPEN_TREE_CLONE of a detached copy. Close-on-exec always."""
    return syscall(SYS_OPEN_TREE, directory, _c_path(path), flags | OPEN_TREE_CLOEXEC, filename=path)


def clone_mount(path: Path, *, directory: int = AT_FDCWD, recursive: bool = False) -> int:
    """A detached bind mount of `path` (or of `directory` itself when the path is empty)."""
    flags = OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0) | (AT_EMPTY_PATH if not path else 0)
    return open_tree(directory, path, flags)


def move_mount(
    source: int, target: int, target_path: Path = "", source_path: Path = "", flags: int = 0
) -> None:
    """Attach the mount behind `source` at `target` (each a descriptor, with an optional path relative to it).

    Without a path the descriptor itself is meant. Symbolic links are not followed unless the flags say so.
    """
    if not source_path:
        flags |= MOVE_MOUNT_F_EMPTY_PATH
    if not target_path:
        flags |= MOVE_MOUNT_T_EMPTY_PATH
    syscall(
        SYS_MOVE_MOUNT, source, _c_path(source_path), target, _c_path(target_path), flags,
        filename=target_path or None,
    )  # fmt: skip


class _MountAttr(ctypes.Structure):
    """struct mount_attr of linux/mount.h, 32 bytes."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


def mount_setattr(
    descriptor: int,
    path: Path = "",
    *,
    set_attributes: int = 0,
    clear_attributes: int = 0,
    propagation: int = 0,
    user_namespace: int | None = None,
    recursive: bool = False,
) -> None:
    """Change a mount's attributes; `user_namespace` (a descriptor) id-maps a detached mount.
    mount_setattr(2).
    """
    if user_namespace is not None:
        set_attributes |= MOUNT_ATTR_IDMAP
    attributes = _MountAttr(set_attributes, clear_attributes, propagation, user_namespace or 0)
    flags = (AT_EMPTY_PATH if not path else 0) | (AT_RECURSIVE if recursive else 0)
    size = ctypes.sizeof(attributes)
    syscall(
        SYS_MOUNT_SETATTR, descriptor, _c_path(path), flags, ctypes.byref(attributes), size,
        filename=path or None,
    )  # fmt: skip


def fsopen(fstype: str) -> int:
    """A close-on-exec context in which a file system of this type is configured."""
    return syscall(SYS_FSOPEN, _c_path(fstype), FSOPEN_CLOEXEC, filename=fstype)


def fspick(directory: int, path: Path = "", flags: int = 0) -> int:
    """A context for reconfiguring a mounted file system."""
    return syscall(SYS_FSPICK, directory, _c_path(path), flags | 1 | (8 if not path else 0))


def fsconfig(
    context: int, command: int, key: str | None = None, value: Path | None = None, auxiliary: int = 0
) -> None:
    """One step of configuration. On failure the error carries the kernel's own message where it left one."""
    try:
        syscall(SYS_FSCONFIG, context, command, _c_path(key), _c_path(value), auxiliary, filename=key)
    except OSError as error:
        message = _context_log(context)
        if message and error.errno:
            raise OSError(error.errno, f"{error.strerror} ({message})", key) from None
        raise


def _context_log(context: int) -> str:
    lines = []
    try:
        while True:
            # Each read gives one message, after its level ("e ", "w ", "i ").
            lines.append(os.read(context, 1024).decode(errors="replace")[2:].strip())
    except OSError:
        return "; ".join(lines)


def fsmount(context: int, attributes: int = 0) -> int:
    """The detached mount of a created context, close-on-exec."""
    return syscall(SYS_FSMOUNT, context, FSMOUNT_CLOEXEC, attributes)


def new_filesystem(fstype: str, options: dict[str, str | None], attributes: int = 0) -> int:
    """A detached mount of a new file system: fsopen, one fsconfig per option (None is a flag), fsmount."""
    context = fsopen(fstype)
    try:
        for key, value in options.items():
            if value is None:
                fsconfig(context, FSCONFIG_SET_FLAG, key)
            else:
                fsconfig(context, FSCONFIG_SET_STRING, key, value)
        fsconfig(context, FSCONFIG_CMD_CREATE)
        return fsmount(context, attributes)
    finally:
        os.close(context)
