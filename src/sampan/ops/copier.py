"""Copying files of one tree into another, as `cp -a` would, with the attributes that a build gives them. Runs in a worker.

Both trees are hostile: sources are opened one part at a time without following links, destinations are resolved by the kernel
beneath their root. Bytes are copied within the kernel (shared, where the file system can).
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable
from typing import NamedTuple

from sampan.archive.copytree import copy_content
from sampan.archive.read_entry import carried_xattrs
from sampan.dockerfile.ignore import Ignore
from sampan.dockerfile.modes import Change, changed_mode
from sampan.errors import InvalidParameter
from sampan.linux import path as paths
from sampan.linux.trees import remove_path
from sampan.ops.choosing import Found

_MAX_LINKS = 40
"""As the kernel has it."""
_SOURCE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Manner(NamedTuple):
    """How files are copied: None keeps what each has."""

    owner: tuple[int, int] | None = None
    mode: int | list[Change] | None = None
    time_ns: int | None = None
    include: Ignore | None = None
    exclude: Ignore | None = None
    replace: bool = False
    """A file may take the place of a directory and the reverse."""
    contents_only: bool = False
    """Of a directory what is in it."""


class Copier:
    """Copies into the tree at `root` (a descriptor)."""

    def __init__(self, root: int, manner: Manner) -> None:
        self._root = root
        self._manner = manner
        self._linked: dict[tuple[int, int], str] = {}

    def copy(self, found: Found, name: str, destination: str) -> None:
        """Copy a source, called `name`, to `destination`; into it, where that is a directory or ends with a slash."""
        target = paths.absolute(destination)
        if destination.endswith(("/", "/.")):
            self._make_directories(target)
        else:
            self._make_directories(posixpath.dirname(target))
        target = self._followed(target)
        existing = self._kind_of(target)
        into = existing == "directory" and not (found.is_directory and self._manner.contents_only)
        if into and name:
            target = posixpath.join(target, name)
        if found.is_directory and self._manner.contents_only and not existing:
            self._make_directories(target)
        directory = paths.open_in_root(self._root, posixpath.dirname(target), os.O_PATH | os.O_DIRECTORY)
        try:
            if found.is_directory and (target == "/" or (existing == "directory" and not into)):
                # Whatever link it was found by: the directory itself.
                self._top_directory(found, target)
            else:
                name = posixpath.basename(target)
                if found.is_directory:
                    self._directory(found.fd, lambda: directory, name, target, "")
                else:
                    self._file(found.fd, directory, name, target)
        finally:
            os.close(directory)

    def _make_directories(self, path: str) -> None:
        """As `make_directories`, with the mode that copies get; its special bits are not a directory's above them."""
        mode = self._manner.mode
        self.make_directories(path, mode & 0o777 if isinstance(mode, int) else 0o755)

    def make_directories(self, path: str, mode: int) -> None:
        """A directory and those above it, as far as they are missing, with the owner that copies get."""
        try:
            made = paths.make_directories(self._root, path, mode, self._manner.owner or (0, 0))
        except NotADirectoryError:
            raise InvalidParameter(f"mkdir {self._in_the_way(path)}: not a directory") from None
        os.close(made)

    def _in_the_way(self, path: str) -> str:
        """The first part of a path that is there and no directory."""
        parts = path.strip("/").split("/")
        above = ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        return next((each for each in above if self._kind_of(each) == "other"), path)

    def _followed(self, path: str) -> str:
        """Where a link at the end of a path leads: what is there is replaced, not the link."""
        for _ in range(_MAX_LINKS):
            try:
                fd = paths.open_in_root(self._root, path, os.O_PATH | os.O_NOFOLLOW)
            except OSError:
                return path
            try:
                leads_to = os.readlink("", dir_fd=fd)
            except OSError:
                return path
            finally:
                os.close(fd)
            path = posixpath.join(posixpath.dirname(path), leads_to)
        return path

    def _kind_of(self, path: str) -> str:
        """`directory`, `other`, or "" for nothing; links followed."""
        try:
            fd = paths.open_in_root(self._root, path, os.O_PATH)
        except OSError:
            return ""
        try:
            return "directory" if paths.is_directory(fd) else "other"
        finally:
            os.close(fd)

    def _top_directory(self, found: Found, path: str) -> None:
        target = paths.open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._members(found.fd, lambda: target, path, "")
            status = os.fstat(found.fd)
            os.utime(target, ns=self._times(status))
        finally:
            os.close(target)

    def _file(self, source: int, directory: int, name: str, path: str) -> None:
        """Anything but a directory, as `name` in an open directory."""
        status = os.fstat(source)
        self._clear(directory, name, path)
        if self._link(status, directory, name, path):
            return
        if stat.S_ISREG(status.st_mode):
            self._regular(source, status, directory, name)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink("", dir_fd=source), name, dir_fd=directory)
            os.chown(name, *self._owner(status), dir_fd=directory, follow_symlinks=False)
            os.utime(name, ns=self._times(status), dir_fd=directory, follow_symlinks=False)
        elif not stat.S_ISSOCK(status.st_mode):
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=directory)
            os.chown(name, *self._owner(status), dir_fd=directory, follow_symlinks=False)
            os.chmod(name, self._mode(status), dir_fd=directory)
            os.utime(name, ns=self._times(status), dir_fd=directory)

    def _regular(self, source: int, status: os.stat_result, directory: int, name: str) -> None:
        reader = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            writer = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
            try:
                copy_content(reader, writer, status.st_size)
                self._finish(writer, status, carried_xattrs(reader))
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def _directory(self, source: int, above: Callable[[], int], name: str, path: str, inside: str) -> None:
        """A directory: made at once when it is wanted itself, else when something in it is."""
        status = os.fstat(source)
        made: list[int] = []

        def target() -> int:
            if not made:
                fd, fresh = self._make(above(), name, path)
                made.append(fd)
                if (
                    fresh or inside
                ):  # what is copied to keeps its own attributes, what is below gets the source's
                    self._finish(fd, status, carried_xattrs(f"/proc/self/fd/{source}"))
            return made[0]

        wanted = not inside or self._wanted(inside)
        try:
            if wanted:
                target()
            elif self._manner.include is None and self._skips(inside):
                return
            self._members(source, target, path, inside)
            if made and wanted:
                os.utime(made[0], ns=self._times(status))
        finally:
            for fd in made:
                os.close(fd)

    def _members(self, source: int, target: Callable[[], int], path: str, inside: str) -> None:
        listed = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in sorted(os.listdir(listed), key=os.fsencode):
                below = f"{inside}/{name}" if inside else name
                fd = os.open(name, _SOURCE, dir_fd=listed)
                try:
                    if paths.is_directory(fd):
                        self._directory(fd, target, name, f"{path}/{name}", below)
                    elif self._wanted(below):
                        self._file(fd, target(), name, f"{path}/{name}")
                finally:
                    os.close(fd)
        finally:
            os.close(listed)

    def _make(self, directory: int, name: str, path: str) -> tuple[int, bool]:
        """The directory `name`, opened, and whether it is new."""
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            try:
                return os.open(name, _DIRECTORY, dir_fd=directory), False
            except OSError:
                if not self._manner.replace:
                    raise InvalidParameter(f"cannot copy to non-directory: {path}") from None
            os.unlink(name, dir_fd=directory)
            os.mkdir(name, 0o700, dir_fd=directory)
        return os.open(name, _DIRECTORY, dir_fd=directory), True

    def _clear(self, directory: int, name: str, path: str) -> None:
        """Make room for a file that is no directory."""
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            if not self._manner.replace:
                raise InvalidParameter(f"cannot replace to directory {path} with file") from None
            remove_path(f"/proc/self/fd/{directory}/{name}")

    def _link(self, status: os.stat_result, directory: int, name: str, path: str) -> bool:
        """A further name of a file that was copied already."""
        if status.st_nlink < 2:
            return False
        first = self._linked.setdefault((status.st_dev, status.st_ino), path)
        if first is path:
            return False
        fd = paths.open_in_root(self._root, first, os.O_PATH | os.O_NOFOLLOW)
        try:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(fd)
        return True

    def _finish(self, fd: int, status: os.stat_result, xattrs: dict[str, bytes] | None) -> None:
        """Owner, then mode, then attributes (chown drops capabilities), then times."""
        os.fchown(fd, *self._owner(status))
        os.fchmod(fd, self._mode(status))
        for name, value in (xattrs or {}).items():
            try:
                os.setxattr(fd, name, value)
            except OSError:
                continue  # a file system without such attributes still gets the files, as with BuildKit
        os.utime(fd, ns=self._times(status))

    def _wanted(self, inside: str) -> bool:
        include, exclude = self._manner.include, self._manner.exclude
        return (include is None or include.excludes(inside)) and (
            exclude is None or not exclude.excludes(inside)
        )

    def _skips(self, inside: str) -> bool:
        return self._manner.exclude is not None and self._manner.exclude.skips(inside)

    def _owner(self, status: os.stat_result) -> tuple[int, int]:
        return self._manner.owner or (status.st_uid, status.st_gid)

    def _mode(self, status: os.stat_result) -> int:
        mode = self._manner.mode
        if mode is None:
            return stat.S_IMODE(status.st_mode)
        return mode if isinstance(mode, int) else changed_mode(status.st_mode, mode)

    def _times(self, status: os.stat_result) -> tuple[int, int]:
        time_ns = self._manner.time_ns
        return (status.st_atime_ns, status.st_mtime_ns) if time_ns is None else (time_ns, time_ns)
