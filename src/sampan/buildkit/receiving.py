"""A client's directory made real: the half of a transfer that touches the disk. It runs in a thread, a batch at a time.

The client is not trusted with where things land. Every entry's parent must be a directory that the same transfer has made, and is
opened again beneath the root with no symbolic link on the way (openat2), so that no order of links, directories and files leads
out. What is on disk already and has the same type, mode, owner, size and time is left alone and not asked for; what the client did
not send is removed.
"""

from __future__ import annotations

import os
import re
import stat
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sampan.archive.beneath import shown
from sampan.errors import InvalidParameter
from sampan.linux.path import open_without_links

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_IS_ROOT = os.geteuid() == 0  # others own whatever they receive
_CACHED = 64
_NAME_MAX, _PATH_MAX = 255, 4096
_WIDEST = 4  # bytes of a character
_NO_PATH = re.compile(r"\0|(?:^|/)\.{0,2}(?:/|\Z)")
"""A part that is empty or means a directory, at the beginning, in the middle or at the end."""
_OVERLAY_MARKS = ("trusted.overlay.", "user.overlay.")


class Item(NamedTuple):
    """One entry as the client describes it."""

    path: str
    mode: int
    """As the kernel's `st_mode`."""
    uid: int
    gid: int
    size: int
    mtime: int
    """Nanoseconds."""
    link: str
    """Target of a symbolic link; of a regular file the earlier path that it is the same file as."""
    device: int
    xattrs: Mapping[str, bytes]
    number: int


@dataclass(slots=True)
class _Open:
    """A directory whose members are arriving."""

    path: str
    leftover: set[str]
    """Names that were there before, and did not come yet."""
    came: set[str] = field(default_factory=set)


class Receiver:
    """Brings a directory to what the client sends. Not for two threads at once."""

    def __init__(self, place: Path, *, compare: bool = True) -> None:
        """`compare=False` asks for every file, whatever is there."""
        self._root = os.open(place, _OPEN_DIRECTORY)
        self._compare = compare
        self._stack = [_Open("", set(os.listdir(self._root)))]
        self._directories: list[Item] = []
        self._links: list[Item] = []
        self._regular: set[str] = set()
        self._wanted: dict[int, Item] = {}
        self._writing: dict[int, int] = {}
        self._handles: OrderedDict[str, int] = OrderedDict()
        self.closed = False
        self.changed = False
        """Whether anything was written or removed. What is found as it should be is not."""
        self.files = 0
        """Received in full."""
        self.bytes = 0

    @property
    def pending(self) -> int:
        """How many files were asked for and are not complete."""
        return len(self._wanted)

    # -- descriptions

    def describe(self, item: Item) -> bool:
        """Take an entry's description; whether its content is to be asked for. Raises `InvalidParameter`."""
        if not _IS_ROOT:
            item = item._replace(uid=os.geteuid(), gid=os.getegid())
        parent, name = _split(item.path)
        while self._stack[-1].path != parent:
            if len(self._stack) == 1:
                raise InvalidParameter(f"{shown(item.path)} came without its directory, or out of order")
            self._leave()
        above = self._stack[-1]
        if name in above.came:
            raise InvalidParameter(f"{shown(item.path)} came twice")
        above.came.add(name)
        there = name in above.leftover
        above.leftover.discard(name)
        return self._place(item, parent, name, there)

    def _place(self, item: Item, parent: str, name: str, there: bool) -> bool:
        directory = self._directory(parent)
        found = os.stat(name, dir_fd=directory, follow_symlinks=False) if there else None
        kind = stat.S_IFMT(item.mode)
        if kind == stat.S_IFDIR:
            self._enter(item, directory, name, found)
            return False
        if kind == stat.S_IFREG and not item.link:
            self._regular.add(item.path)
        if kind == stat.S_IFREG and item.link:
            return self._hard_link(item, directory, name, found)
        if found is not None:
            if self._compare and _same(item, found, directory, name):
                return False
            self._remove(directory, name, found, item.path)
        self.changed = True
        if kind == stat.S_IFREG:
            self._wanted[item.number] = item
            return True
        _make_other(directory, name, item)
        return False

    def _enter(self, item: Item, directory: int, name: str, found: os.stat_result | None) -> None:
        names: set[str] = set()
        if found is not None and not stat.S_ISDIR(found.st_mode):
            self._remove(directory, name, found, item.path)
            found = None
        if found is None:
            self.changed = True
            os.mkdir(name, 0o700, dir_fd=directory)
        else:
            handle = self._directory(item.path)
            names = set(os.listdir(handle))
        self._stack.append(_Open(item.path, names))
        self._directories.append(item)

    def _hard_link(self, item: Item, directory: int, name: str, found: os.stat_result | None) -> bool:
        source = item.link.lstrip("/")
        if source not in self._regular:
            raise InvalidParameter(
                f"{shown(item.path)} is a link to {shown(source)}, which did not come before it"
            )
        if found is not None:
            self._remove(directory, name, found, item.path)
        self.changed = True
        self._links.append(item._replace(link=source))
        return False

    def described(self) -> None:
        """There are no more entries: what was not sent goes."""
        while len(self._stack) > 1:
            self._leave()
        self._drop_leftovers(self._stack[0])

    def _leave(self) -> None:
        self._drop_leftovers(self._stack.pop())

    def _drop_leftovers(self, opened: _Open) -> None:
        if not opened.leftover:
            return
        directory = self._directory(opened.path)
        for name in opened.leftover:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            self._remove(directory, name, found, f"{opened.path}/{name}".lstrip("/"))
        opened.leftover.clear()

    # -- contents

    def data(self, number: int, data: bytes | memoryview) -> None:
        """The next piece of a file's content; an empty one ends it. Raises `InvalidParameter` for one that nobody asked for."""
        item = self._wanted.get(number)
        if item is None:
            raise InvalidParameter(f"content came for file {number}, which was not asked for")
        fd = self._writing.get(number)
        if fd is None:
            parent, name = _split(item.path)
            fd = self._writing[number] = os.open(name, _NEW_FILE, 0o600, dir_fd=self._directory(parent))
        if data:
            self.bytes += len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            return
        del self._wanted[number], self._writing[number]
        self.files += 1
        try:
            _set_attributes(fd, item)
        finally:
            os.close(fd)

    def finish(self) -> None:
        """Everything has come: hard links, and the directories' own attributes, which their members would have changed."""
        for item in self._links:
            source_parent, source = _split(item.link)
            parent, name = _split(item.path)
            os.link(
                source,
                name,
                src_dir_fd=self._directory(source_parent),
                dst_dir_fd=self._directory(parent),
                follow_symlinks=False,
            )
        for item in reversed(self._directories):
            found = os.fstat(handle := self._directory(item.path))
            if _differs(item, found):
                self.changed = True
                _set_attributes(handle, item)

    def close(self) -> None:
        """Let go of every descriptor; a file that is not complete has another time than its description and comes again."""
        self.closed = True
        for fd in (*self._writing.values(), *self._handles.values(), self._root):
            os.close(fd)
        self._writing.clear()
        self._handles.clear()

    # -- directories

    def _directory(self, path: str) -> int:
        """A descriptor of a directory that this transfer made, valid for the next few calls."""
        if not path:
            return self._root
        handle = self._handles.get(path)
        if handle is not None:
            self._handles.move_to_end(path)
            return handle
        handle = open_without_links(self._root, path, _OPEN_DIRECTORY)
        if len(self._handles) >= _CACHED:
            os.close(self._handles.popitem(last=False)[1])
        self._handles[path] = handle
        return handle

    def _remove(self, directory: int, name: str, found: os.stat_result, path: str) -> None:
        self.changed = True
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=directory)
            return
        for known in [each for each in self._handles if each == path or each.startswith(f"{path}/")]:
            os.close(self._handles.pop(known))
        _remove_tree(directory, name)


def _split(path: str) -> tuple[str, str]:
    """Parent and name of a path that can be trusted to be one. Raises `InvalidParameter`."""
    parent, _, name = path.rpartition("/")
    if _NO_PATH.search(path) or not path:
        raise InvalidParameter(f"{shown(path)} is no path of a file beneath the directory")
    if len(path) * _WIDEST <= _NAME_MAX:
        return parent, name
    if len(os.fsencode(path)) >= _PATH_MAX or any(
        len(os.fsencode(part)) > _NAME_MAX for part in path.split("/")
    ):
        raise InvalidParameter(f"{shown(path)}: file name too long")
    return parent, name


def _differs(item: Item, found: os.stat_result) -> bool:
    return (item.mode, item.uid, item.gid, item.mtime) != (
        found.st_mode,
        found.st_uid,
        found.st_gid,
        found.st_mtime_ns,
    )


def _same(item: Item, found: os.stat_result, directory: int, name: str) -> bool:
    """Whether what is on disk is what the client describes, as far as that can be seen without its content."""
    kind = stat.S_IFMT(item.mode)
    if kind == stat.S_IFLNK:
        return (
            stat.S_ISLNK(found.st_mode)
            and os.readlink(name, dir_fd=directory) == item.link
            and (found.st_uid, found.st_gid, found.st_mtime_ns) == (item.uid, item.gid, item.mtime)
        )
    if _differs(item, found):
        return False
    if kind == stat.S_IFREG:
        # A file that is one with another on disk is none that stands for itself: changing it would change the other.
        return found.st_size == item.size and found.st_nlink == 1
    return found.st_rdev == item.device


def _make_other(directory: int, name: str, item: Item) -> None:
    kind = stat.S_IFMT(item.mode)
    if kind == stat.S_IFSOCK:
        return  # nothing that a build could use
    if kind == stat.S_IFLNK:
        os.symlink(item.link, name, dir_fd=directory)
    else:
        os.mknod(name, kind | 0o600, item.device, dir_fd=directory)
        os.chmod(name, stat.S_IMODE(item.mode), dir_fd=directory)  # ours since a moment, and no link
    os.chown(name, item.uid, item.gid, dir_fd=directory, follow_symlinks=False)
    os.utime(name, ns=(item.mtime, item.mtime), dir_fd=directory, follow_symlinks=False)


def _set_attributes(fd: int, item: Item) -> None:
    os.fchown(fd, item.uid, item.gid)
    os.fchmod(fd, stat.S_IMODE(item.mode))
    for name, value in item.xattrs.items():
        if name.startswith(_OVERLAY_MARKS):
            continue  # the snapshotter's alone: they would redirect directories of other layers
        try:
            os.setxattr(fd, name, value)
        except OSError:
            pass  # a file system without them still gets the files, as with Docker
    os.utime(fd, ns=(item.mtime, item.mtime))  # last: it says that the file is complete


def _remove_tree(directory: int, name: str) -> None:
    fd = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
    try:
        with os.scandir(fd) as entries:
            members = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for member, is_directory in members:
            if is_directory:
                _remove_tree(fd, member)
            else:
                os.unlink(member, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=directory)
