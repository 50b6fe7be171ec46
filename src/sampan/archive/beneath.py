"""A directory tree in which an archive's paths are resolved, every one of them by the kernel and beneath a root.

Two meanings of a path:

- `beneath`: a layer's. A link with an absolute target starts over at the tree's root, as it will in the container, and may name
  directories that only the layers below have; one that climbs above the root by `..` is an error.
- `in_root`: a container's. Links and `..` mean what they mean to a process in it; they end at its root
  (CVE-2018-15664: never resolved as text, never checked first and used later).

Directories stay open in a small cache, for archives list a directory's members one after the other.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from sampan.errors import InvalidParameter
from sampan.linux.path import open_beneath, open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable

_CACHED = 128
_LINKS = 40
_PATH_MAX = 4096
"""As many as the kernel follows."""
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """Open directories by their path relative to `base` in a tree. Close it at the end."""

    def __init__(self, root: int, base: str = "", meaning: Literal["beneath", "in_root"] = "beneath") -> None:
        """`root` is borrowed. `base` is a path in it that all others are relative to."""
        self._root = root
        self._base = base.strip("/")
        self._open = open_beneath if meaning == "beneath" else open_in_root
        self._cache: OrderedDict[str, int] = OrderedDict()

    def close(self) -> None:
        for fd in self._cache.values():
            os.close(fd)
        self._cache.clear()

    def directory(self, path: str) -> int:
        """An O_PATH descriptor of the directory, valid for the next hundred calls; FileNotFoundError if missing.

        Raises InvalidParameter when the way leads out, through a file, or round in circles.
        """
        fd = self._cache.get(path)
        if fd is not None:
            self._cache.move_to_end(path)
            return fd
        fd = self._resolve(path)
        if len(self._cache) >= _CACHED:
            os.close(self._cache.popitem(last=False)[1])
        self._cache[path] = fd
        return fd

    def make_directory(self, path: str, inherit: Callable[[int, str], None]) -> int:
        """Like `directory`, but missing ones are made; `inherit(fd, path)` gives each its attributes."""
        try:
            return self.directory(path)
        except FileNotFoundError:
            pass
        parent, _, name = path.rpartition("/")
        above = self.make_directory(parent, inherit)
        try:
            os.mkdir(name, 0o755, dir_fd=above)
        except FileExistsError:
            real = self._followed(path)
            if real == path:
                raise InvalidParameter(f"{path!r} is not a directory") from None
            self.make_directory(real, inherit)  # a link into what only the layers below have
            return self.directory(path)
        made = os.open(name, _OPEN_DIRECTORY, dir_fd=above)
        try:
            inherit(made, path)
        finally:
            os.close(made)
        return self.directory(path)

    def open_directory(self, path: str) -> int:
        """A readable descriptor of the directory, which the caller closes."""
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.directory(path))

    def forget(self, path: str) -> None:
        """The directory is about to go: neither it nor what is beneath it may be used by its old path."""
        for known in [each for each in self._cache if each == path or each.startswith(f"{path}/")]:
            os.close(self._cache.pop(known))

    def forget_all(self) -> None:
        """A link changed its meaning: any path may now lead elsewhere."""
        self.close()

    def _resolve(self, path: str) -> int:
        try:
            return self._open(self._root, f"{self._base}/{path}".strip("/"), _DIRECTORY)
        except OSError as error:
            if error.errno == errno.EXDEV:
                return self._resolve_absolute(path)
            if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                raise InvalidParameter(f"{path!r}: {error.strerror}") from None
            raise

    def _resolve_absolute(self, path: str) -> int:
        """A way that the kernel refused as leaving the root: right with absolute links, refused when it climbs.

        The kernel resolves it again, and cannot leave the root (RESOLVE_IN_ROOT): the reading of links here decides what to
        refuse, never where something is written.
        """
        self._followed(path)
        try:
            return open_in_root(self._root, f"{self._base}/{path}".strip("/"), _DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                raise InvalidParameter(f"{path!r}: {error.strerror}") from None
            raise

    def _followed(self, path: str) -> str:
        """The path with its links followed, whether or not its end exists. Raises InvalidParameter for a climb or a loop."""
        done: list[str] = []
        waiting = path.split("/")[::-1]
        links = 0
        while waiting:
            part = waiting.pop()
            if part == ".." and not done:
                raise InvalidParameter(f"{path!r} leads out of the tree through a symbolic link")
            if part == "..":
                done.pop()
            elif part not in ("", "."):
                target = self._link_at("/".join([*done, part]))
                if target is None:
                    done.append(part)
                    continue
                links += 1
                if links > _LINKS:
                    raise InvalidParameter(f"{path!r}: too many levels of symbolic links")
                if target.startswith("/"):
                    done.clear()
                waiting.extend(target.split("/")[::-1])
        return "/".join(done)

    def _link_at(self, path: str) -> str | None:
        """The target of a symbolic link; None for anything else, and for nothing."""
        try:
            fd = open_in_root(self._root, f"{self._base}/{path}".strip("/"), os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            return os.readlink("", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
        finally:
            os.close(fd)


def clean_name(name: str) -> str:
    """An archive's name as a relative path without `.` and empty parts; empty for the root itself.

    Raises InvalidParameter for absolute names, any `..`, and what no file system could hold.
    """
    if name.startswith("/"):
        raise InvalidParameter(f"entry {shown(name)}: absolute names are refused")
    if "/." not in name and "//" not in name and not name.startswith(".") and len(name) <= 255:
        return name.rstrip("/")  # the common case
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidParameter(f"entry {shown(name)}: names with '..' are refused")
    if any(len(os.fsencode(part)) > 255 for part in parts):
        raise InvalidParameter(f"entry {shown(name)}: name too long")
    check_length(name)
    return "/".join(parts)


def check_length(path: str) -> None:
    """Refuse what no path could name (PATH_MAX). Raises InvalidParameter; so does Docker, in the kernel's words."""
    if len(path) >= _PATH_MAX or len(os.fsencode(path)) >= _PATH_MAX:
        raise InvalidParameter(f"entry {shown(path)}: file name too long")


def shown(name: str) -> str:
    """A name for an error message: quoted, control characters escaped, not endless."""
    text = repr(name)
    return text if len(text) <= 200 else f"{text[:196]}...'"
