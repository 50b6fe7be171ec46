"""Files chosen by pattern beneath a root, whose links lead nowhere else. Runs in a worker process."""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from sampan.archive.compression import InputStream
from sampan.archive.tarread import TarReader
from sampan.dockerfile.ignore import expression_of
from sampan.errors import InvalidParameter, NotFound, SampanError
from sampan.linux import path as paths

_WILD = re.compile(r"[*?\[\\]")


class Found(NamedTuple):
    """A source: an open descriptor (O_PATH), and the name that it was found by."""

    fd: int
    path: str
    is_directory: bool


def choose(root: int, patterns: list[str], what: str) -> list[Found]:
    """The sources that the patterns name, each pattern's in order of name. Raises `NotFound`/`InvalidParameter` for none."""
    found = []
    for pattern in patterns:
        clean = paths.absolute(pattern).lstrip("/")
        matches = list(matching(root, clean)) if has_wildcards(clean) else [clean]
        if not matches:
            raise InvalidParameter(f"{what} failed: no source files were specified")
        for path in matches:
            found.append(_open(root, path, what))
    return found


def _open(root: int, path: str, what: str) -> Found:
    try:
        fd = paths.open_in_root(root, path or "/", os.O_PATH)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        raise NotFound(
            f"{what} failed: file not found in build context or excluded by .dockerignore:"
            f" stat {path}: file does not exist"
        ) from None
    return Found(fd, path, stat.S_ISDIR(os.fstat(fd).st_mode))


def has_wildcards(pattern: str) -> bool:
    """Whether a path is a pattern of Go's `filepath.Match`."""
    return _WILD.search(pattern) is not None


def found_at(root: int, path: str, *, follow: bool) -> Found:
    """The file at a path; with `follow` what a link at its end leads to. Raises `NotFound` in BuildKit's words."""
    clean = paths.absolute(path).lstrip("/")
    try:
        fd = paths.open_in_root(root, clean or "/", os.O_PATH if follow else os.O_PATH | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        raise NotFound(f'"/{clean}": not found') from None
    return Found(fd, clean, stat.S_ISDIR(os.fstat(fd).st_mode))


def matching(root: int, pattern: str) -> Iterator[str]:
    """Paths below the root that a pattern of Go's `filepath.Match` fits, part by part."""
    parts = pattern.split("/")

    def below(prefix: str, depth: int) -> Iterator[str]:
        if depth == len(parts):
            if _WILD.search(parts[-1]) or _exists(root, prefix):
                yield prefix
            return
        if not _WILD.search(parts[depth]):
            yield from below(posixpath.join(prefix, parts[depth]), depth + 1)
            return
        wanted = re.compile(expression_of(parts[depth]), re.DOTALL)
        try:
            fd = paths.open_in_root(root, prefix or "/", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return
        try:
            names = sorted(os.listdir(fd), key=os.fsencode)
        finally:
            os.close(fd)
        for name in names:
            if wanted.match(name):
                yield from below(posixpath.join(prefix, name), depth + 1)

    yield from below("", 0)


def _exists(root: int, path: str) -> bool:
    try:
        os.close(paths.open_in_root(root, path or "/", os.O_PATH | os.O_NOFOLLOW))
    except OSError:
        return False
    return True


def open_source(source: dict[str, Any]) -> int:
    """The root that sources are chosen in: `{"directory": path}`, `{"rootfs": mounts}` of a snapshot, or `{"empty": True}`."""
    if source.get("empty"):
        return _empty()
    if "directory" in source:
        return os.open(source["directory"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    from sampan.runtime.container.host import open_mount

    root = -1
    for entry in source["rootfs"]:
        root = open_mount(entry)
    return root


def _empty() -> int:
    """A root with nothing in it, which nobody else sees."""
    from sampan.runtime.container.host import open_mount

    return open_mount({"destination": "/", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "size=4k"]})


def is_archive(found: Found) -> bool:
    """Whether a file is a tar of any compression with at least one entry."""
    if not stat.S_ISREG(os.fstat(found.fd).st_mode):
        return False
    fd = os.open(f"/proc/self/fd/{found.fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return next(iter(TarReader(InputStream(fd))), None) is not None
    except SampanError:
        return False
    finally:
        os.close(fd)
