"""`docker cp` out of a container and `export`: a path of a tree as a tar, the tree being a hostile container's.

The path is resolved once, by the kernel, as a process in the container would; from there on only open directories are
walked and no link is followed, so a container that swaps a directory for a link meanwhile wins nothing (CVE-2018-15664).
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from sampan.archive.compression import OutputStream
from sampan.archive.read_entry import EntryReader
from sampan.archive.tarwrite import TarWriter
from sampan.errors import InvalidParameter, NotFound
from sampan.linux.path import absolute, open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WHOLE_SECONDS = 1_000_000_000
"""As Docker's archives have them: finer times need a header of their own, and some clients take the first bytes for the name."""

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def pack_job(
    args: dict[str, Any], fds: Sequence[int], report: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Write `args["path"]` of the tree whose root is fds[1] to fds[0], plain.

    Entries begin with the path's last part, or `args["name"]`; those of the root itself with `/`, as Docker's do.
    `"name": ""` leaves the top entry out and starts with what is in it (`export`). Raises NotFound.
    """
    out = OutputStream(fds[0])
    writer = TarWriter(out)
    packer = _Packer(EntryReader(writer, resolution_ns=_WHOLE_SECONDS))
    path: str = args["path"]
    directory, last = _open_parent(fds[1], path)
    try:
        name = args.get("name")
        packer.pack(directory, last, (absolute(path).rpartition("/")[2] or "/") if name is None else name)
    except FileNotFoundError:
        raise NotFound(f"Could not find the file {path}") from None
    finally:
        os.close(directory)
    writer.finish()
    out.close()
    return {"entries": writer.entries, "size": out.size}


def pack_trees_job(
    args: dict[str, Any], fds: Sequence[int], report: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Write whole trees, whose roots are fds[1:], to fds[0], plain: each as the directory of its name in `args["names"]`, "" being
    the archive's top. With `args["mtime_ns"]` every file has that time."""
    out = OutputStream(fds[0])
    writer = TarWriter(out)
    for name, root in zip(args["names"], fds[1:], strict=True):
        # One reader each: a file's further names in another tree are no links to it.
        reader = EntryReader(writer, resolution_ns=_WHOLE_SECONDS, mtime_ns=args["mtime_ns"])
        _Packer(reader).pack(root, ".", name)
    writer.finish()
    out.close()
    return {"entries": writer.entries, "size": out.size}


class _Packer:
    """Walks a tree into an archive."""

    def __init__(self, reader: EntryReader) -> None:
        self._reader = reader

    def pack(self, directory: int, name: str, path: str) -> None:
        """The file `name` as `path`, and what is in it."""
        status = os.lstat(name, dir_fd=directory)
        top = path.rstrip("/")
        if path:
            self._reader.add(directory, name, top, status)
        if stat.S_ISDIR(status.st_mode):
            inner = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
            try:
                self._members(inner, f"{top}/" if path else "")
            finally:
                os.close(inner)

    def _members(self, directory: int, prefix: str) -> None:
        for name in sorted(os.listdir(directory), key=os.fsencode):
            try:
                status = os.lstat(name, dir_fd=directory)
                self._reader.add(directory, name, prefix + name, status)
                if stat.S_ISDIR(status.st_mode):
                    inner = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
                    try:
                        self._members(inner, f"{prefix}{name}/")
                    finally:
                        os.close(inner)
            except (FileNotFoundError, NotADirectoryError):
                continue  # changed since it was listed: the container runs


def _open_parent(root: int, path: str) -> tuple[int, str]:
    """The directory in which the path's last part is, and that part; `.` where the path means a directory itself."""
    if "\0" in path:
        raise InvalidParameter("path with a NUL byte")
    parent, _, last = path.rpartition("/")
    if last in ("", ".", ".."):
        parent, last = path, "."
    try:
        return open_in_root(root, parent or "/", os.O_PATH | os.O_DIRECTORY), last
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"Could not find the file {path}") from None
