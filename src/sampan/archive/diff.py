"""What a directory changed against what it started from, as a layer: `docker commit`, and a build's steps.

Two sources of truth: an overlay upper directory, which holds exactly the changes (whiteouts as devices 0:0, opaque
directories by attribute); or two whole trees, for the copying snapshotter, where an entry changed if any of its
attributes or its size or modification time did.

The archive is sorted and carries nothing of the machine, so that the same changes give the same digest.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.archive.apply import OPAQUE, OPAQUE_ATTRIBUTE, WHITEOUT
from sampan.archive.beneath import check_length
from sampan.archive.compression import OutputStream
from sampan.archive.read_entry import EntryReader, carried_xattrs
from sampan.archive.tarread import REGULAR, Entry
from sampan.archive.tarwrite import TarWriter
from sampan.errors import SystemFailure, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Difference(NamedTuple):
    """One changed path. The descriptor is valid until the next one is asked for."""

    path: str
    status: os.stat_result | None
    """None for a path that was removed."""
    directory: int
    """The open directory that the path's last part is in."""
    opaque: bool = False
    """Nothing of the layers below shows through in this directory."""


def diff_job(
    args: dict[str, Any], fds: Sequence[int], report: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Write the layer to fds[0], from its present position; arguments and result as in `sampan.archive`.

    Raises SystemFailure when the disk is full or the tree can't be read.
    """
    out = OutputStream(fds[0], args.get("compression", "none"))
    writer = TarWriter(out)
    reader = EntryReader(writer)
    try:
        for change in differences(args):
            _add(writer, reader, change)
        writer.finish()
        out.close()
    except OSError as error:
        raise SystemFailure(
            f"cannot write the layer: {reason_of(error)}: {error.filename or ''}".rstrip(": ")
        ) from error
    return {
        "diff_id": out.diff_id,
        "digest": out.digest,
        "size": out.size,
        "uncompressed_size": out.uncompressed_size,
        "entries": writer.entries,
        "compression": out.compression,
    }


def differences(args: dict[str, Any]) -> Iterator[Difference]:
    """The changes in order, directories before what is in them; `args` is `ApplyTarget.job_args()`."""
    target = os.open(args["target"], _OPEN_DIRECTORY)
    try:
        if args.get("compare"):
            base = os.open(args["compare"], _OPEN_DIRECTORY)
            try:
                yield from _nameable(_compared(base, target, ""))
            finally:
                os.close(base)
        else:
            yield from _nameable(_overlaid(target, ""))
    finally:
        os.close(target)


def _nameable(changes: Iterator[Difference]) -> Iterator[Difference]:
    for change in changes:
        check_length(change.path)
        yield change


def _add(writer: TarWriter, reader: EntryReader, change: Difference) -> None:
    parent, slash, name = change.path.rpartition("/")
    if change.status is None:
        writer.add(_whiteout(f"{parent}{slash}{WHITEOUT}{name}"))
        return
    try:
        reader.add(change.directory, name, change.path, change.status)
    except FileNotFoundError:
        return  # gone since it was listed: the container was not paused
    if change.opaque:
        writer.add(_whiteout(f"{change.path}/{OPAQUE}"))


def _whiteout(path: str) -> Entry:
    entry = Entry()
    entry.name, entry.kind, entry.link = path, REGULAR, ""
    entry.mode = entry.uid = entry.gid = entry.size = entry.real_size = 0
    entry.mtime_ns = entry.major = entry.minor = 0
    entry.atime_ns = entry.xattrs = entry.sparse = None
    return entry


def _overlaid(directory: int, prefix: str) -> Iterator[Difference]:
    for name in _listed(directory):
        status = _status(directory, name)
        if status is None:
            continue
        path = prefix + name
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            yield Difference(path, None, directory)
        elif not stat.S_ISDIR(status.st_mode):
            yield Difference(path, status, directory)
        else:
            inner = _opened(directory, name)
            if inner is None:
                continue
            try:
                yield Difference(path, status, directory, _is_opaque(inner))
                yield from _overlaid(inner, f"{path}/")
            finally:
                os.close(inner)


def _all(directory: int, prefix: str) -> Iterator[Difference]:
    """Everything in a directory that is new as a whole; devices 0:0 are no whiteouts here."""
    for name in _listed(directory):
        status = _status(directory, name)
        if status is None:
            continue
        yield Difference(prefix + name, status, directory)
        if stat.S_ISDIR(status.st_mode):
            inner = _opened(directory, name)
            if inner is None:
                continue
            try:
                yield from _all(inner, f"{prefix}{name}/")
            finally:
                os.close(inner)


def _compared(base: int, directory: int, prefix: str) -> Iterator[Difference]:
    """Both trees side by side. A directory is listed when it or anything in it changed, once, before its contents."""
    old, new = set(_listed(base)), set(_listed(directory))
    for name in sorted(old | new, key=os.fsencode):
        path = prefix + name
        before = _status(base, name) if name in old else None
        after = _status(directory, name) if name in new else None
        if after is None:
            if before is not None:
                yield Difference(path, None, directory)
            continue
        if not stat.S_ISDIR(after.st_mode):
            if before is None or _differs(base, directory, name, before, after):
                yield Difference(path, after, directory)
            continue
        inner = _opened(directory, name)
        if inner is None:
            continue
        try:
            if before is None or not stat.S_ISDIR(before.st_mode):
                yield Difference(path, after, directory)
                yield from _all(inner, f"{path}/")
            else:
                yield from _compared_directory(base, directory, inner, path, before, after)
        finally:
            os.close(inner)


def _compared_directory(
    base: int, directory: int, inner: int, path: str, before: os.stat_result, after: os.stat_result
) -> Iterator[Difference]:
    name = path.rpartition("/")[2]
    old = os.open(name, _OPEN_DIRECTORY, dir_fd=base)
    try:
        announced = _differs(base, directory, name, before, after)
        if announced:
            yield Difference(path, after, directory)
        for change in _compared(old, inner, f"{path}/"):
            if not announced:
                yield Difference(path, after, directory)
                announced = True
            yield change
    finally:
        os.close(old)


def _differs(base: int, directory: int, name: str, before: os.stat_result, after: os.stat_result) -> bool:
    def identity(status: os.stat_result) -> tuple[int, ...]:
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        return status.st_mode, status.st_uid, status.st_gid, status.st_rdev, size, status.st_mtime_ns

    if identity(before) != identity(after):
        return True
    try:
        after_xattrs = carried_xattrs(f"/proc/self/fd/{directory}/{name}")
    except FileNotFoundError:
        return True  # gone since
    return carried_xattrs(f"/proc/self/fd/{base}/{name}") != after_xattrs


def _listed(directory: int) -> list[str]:
    return sorted(os.listdir(directory), key=os.fsencode)


def _status(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None  # removed since it was listed


def _opened(directory: int, name: str) -> int | None:
    """None when the directory that was there a moment ago is gone or a link: the container may be running."""
    try:
        return os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, OPAQUE_ATTRIBUTE) == b"y"
    except OSError:
        return False
