"""Read a few files of a container's root file system without mounting it.

The root is only ever mounted in a shim's private namespace, but the engine has to know users and groups of the image
before that. An overlay's layers are directories of the host, so a name is looked up in them from the top, with overlay's
own marks for deletions (a character device 0:0, an opaque directory), and with symbolic links followed inside the
container's root.

Layers are hostile: every step is opened relative to a directory descriptor with O_NOFOLLOW, never by a joined path
(CVE-2018-15664's class), and only regular files are read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.oci.runtime import Mount

_MAX_LINKS = 40
_MAX_SIZE = 1 << 20
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def layer_directories(mounts: Sequence[Mount]) -> list[str]:
    """Directories that make up the root, topmost first: an overlay's upper and lowers, or one bound directory."""
    if not mounts:
        return []
    mount = mounts[-1]
    if mount.get("type") != "overlay":
        return [mount["source"]] if "source" in mount else []
    upper: list[str] = []
    lower: list[str] = []
    for option in mount.get("options", ()):
        key, _, value = option.partition("=")
        if key == "upperdir":
            upper = [value]
        elif key == "lowerdir":
            lower = value.split(":")
        elif key == "lowerdir+":
            lower.append(value)
    return upper + lower


def read_file(layers: Sequence[str], path: str) -> bytes | None:
    """The first MiB of a regular file; None when there is none. `path` is absolute in the container."""
    roots = []
    try:
        for layer in layers:
            roots.append(os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return _read(roots, [part for part in path.split("/") if part], 0)
    except OSError:
        return None
    finally:
        for root in roots:
            os.close(root)


def _read(roots: list[int], parts: list[str], links: int) -> bytes | None:
    """Walk `parts` down from the layers' roots; `directories` are the layers' parts of the directory reached so far."""
    directories = [os.dup(root) for root in roots]
    done: list[str] = []
    try:
        while parts:
            name, parts = parts[0], parts[1:]
            if name in (".", ".."):
                target = done[:-1] if name == ".." else done
                return _read(roots, [*target, *parts], links + 1) if links < _MAX_LINKS else None
            found = _lookup(directories, name)
            if found is None:
                return None
            holders, mode = found
            if stat.S_ISLNK(mode):
                if links >= _MAX_LINKS:
                    return None
                link = os.readlink(name, dir_fd=holders[0])
                base = [] if link.startswith("/") else done
                return _read(roots, [*base, *(part for part in link.split("/") if part), *parts], links + 1)
            if stat.S_ISDIR(mode):
                below = [
                    os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=holder)
                    for holder in holders
                ]
                for directory in directories:
                    os.close(directory)
                directories = below
                done.append(name)
                continue
            return _contents(holders[0], name) if stat.S_ISREG(mode) and not parts else None
        return None
    finally:
        for directory in directories:
            os.close(directory)


def _lookup(directories: list[int], name: str) -> tuple[list[int], int] | None:
    """The layers that hold `name`, topmost first (several only for a directory), and its mode."""
    holders: list[int] = []
    mode = 0
    for directory in directories:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            break  # whiteout: what is below has been deleted
        if holders and not stat.S_ISDIR(status.st_mode):
            break  # a file below a directory is hidden by it
        holders.append(directory)
        mode = mode or status.st_mode
        if not stat.S_ISDIR(status.st_mode) or _is_opaque(directory, name):
            break
    return (holders, mode) if holders else None


def _is_opaque(directory: int, name: str) -> bool:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        for attribute in _OPAQUE:
            try:
                if os.getxattr(descriptor, attribute) == b"y":
                    return True
            except OSError:
                continue
        return False
    finally:
        os.close(descriptor)


def _contents(directory: int, name: str) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=directory), "rb") as file:
        return file.read(_MAX_SIZE)
