"""Files as an archive with the attributes that a copy gives them. Runs in a worker process.

The same walk serves twice: for the digest that identifies a step (`mtime` left out, so that a touched file is the same file) and
for the copy itself.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING, NamedTuple

from sampan.archive.read_entry import EntryReader
from sampan.archive.tarread import REGULAR, SYMLINK, Entry
from sampan.dockerfile.ignore import Ignore
from sampan.ops.choosing import Found

if TYPE_CHECKING:
    from sampan.archive.tarwrite import TarWriter

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Attributes(NamedTuple):
    """What copied files get: owner None keeps theirs, so does mode None; `dated` False sets all times to 0."""

    owner: tuple[int, int] | None
    mode: int | None
    dated: bool


class SourceReader(EntryReader):
    """Puts files into an archive with the attributes that a copy gives them."""

    def __init__(self, writer: TarWriter, attributes: Attributes, ignore: Ignore) -> None:
        super().__init__(writer)
        self._attributes = attributes
        self._ignore = ignore

    def pack(self, found: Found, target: str) -> None:
        """A file as `target`; of a directory what is in it, below `target` (`""` is the root)."""
        if found.is_directory:
            directory = os.open(f"/proc/self/fd/{found.fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._members(directory, target, "")
            finally:
                os.close(directory)
        elif not self._ignore.excludes(posixpath.basename(found.path)):
            self._file(found, target)

    def _file(self, found: Found, target: str) -> None:
        # Opened again through its own descriptor: it is this file, whatever its name means by now.
        status = os.fstat(found.fd)
        self.add_descriptor(found.fd, target, status)

    def _members(self, directory: int, target: str, inside: str) -> None:
        for name in sorted(os.listdir(directory), key=os.fsencode):
            path = posixpath.join(inside, name)
            status = os.lstat(name, dir_fd=directory)
            is_directory = stat.S_ISDIR(status.st_mode)
            if not self._ignore.excludes(path):
                self.add(directory, name, posixpath.join(target, name), status)
            elif not is_directory or self._ignore.skips(path):
                continue
            if is_directory:
                inner = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
                try:
                    self._members(inner, posixpath.join(target, name), path)
                finally:
                    os.close(inner)

    def entry(self, path: str, kind: str, status: os.stat_result) -> Entry:
        """See `EntryReader.entry`."""
        entry = super().entry(path, kind, status)
        return with_attributes(entry, self._attributes)


def with_attributes(entry: Entry, attributes: Attributes) -> Entry:
    """The entry as a copy of it is to be."""
    if attributes.owner is not None:
        entry.uid, entry.gid = attributes.owner
    if attributes.mode is not None and entry.kind != SYMLINK:
        entry.mode = attributes.mode
    if not attributes.dated:
        entry.mtime_ns = 0
    return entry


def inline(name: str, data: bytes) -> tuple[Entry, int]:
    """A heredoc as an entry, and a descriptor with its bytes."""
    entry = Entry()
    entry.name, entry.kind, entry.mode = name, REGULAR, 0o644
    entry.uid = entry.gid = entry.major = entry.minor = 0
    entry.size = entry.real_size = len(data)
    entry.mtime_ns, entry.atime_ns, entry.link = 0, None, ""
    entry.xattrs = entry.sparse = None
    fd = os.memfd_create(name or "heredoc", os.MFD_CLOEXEC)
    os.write(fd, data)
    return entry, fd
