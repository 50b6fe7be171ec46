"""File operations in a worker: a chain of actions on one writable tree. Light: a worker is a fork of the zygote and imports
this itself.

Arguments are JSON: `view` opens the tree that is changed (`containers.root_view`), `sources` those that are copied from, by their
number; each action is a dictionary with its `kind` and the fields of its message.
"""

from __future__ import annotations

import base64
import os
import posixpath
from collections.abc import Callable
from typing import Any

from sampan.archive.beneath import Tree
from sampan.archive.compression import InputStream
from sampan.archive.tarread import TarReader
from sampan.archive.unpack import Unpacker
from sampan.containers.root_view import open_root
from sampan.dockerfile.ignore import Ignore
from sampan.dockerfile.modes import parse_mode
from sampan.errors import InvalidParameter, NotFound
from sampan.linux import path as paths
from sampan.linux.trees import remove_tree
from sampan.ops.choosing import Found, found_at, has_wildcards, is_archive, matching, open_source
from sampan.ops.copier import Copier, Manner
from sampan.runtime.container.users import read_lines

Report = Callable[[dict[str, Any]], None]


def file_job(args: dict[str, Any], _fds: list[int], _report: Report) -> dict[str, Any]:
    """Do the actions one after the other. Raises in BuildKit's words."""
    os.umask(0)  # a worker does one job
    changer = _Changer(open_root(args["view"]), args["sources"])
    for action in args["actions"]:
        try:
            changer.act(action)
        except OSError as error:
            raise InvalidParameter(
                f"{action['kind']} {_shown(action)}: {os.strerror(error.errno or 0).lower()}"
            ) from None
    return {}


class _Changer:
    """The tree, and the sources as they are needed."""

    def __init__(self, root: int, sources: dict[str, Any]) -> None:
        self._root = root
        self._sources = sources
        self._opened: dict[str, int] = {}

    def act(self, action: dict[str, Any]) -> None:
        """One action."""
        {
            "copy": self._copy,
            "mkdir": self._mkdir,
            "mkfile": self._mkfile,
            "rm": self._rm,
            "symlink": self._symlink,
        }[action["kind"]](action)

    def _source(self, number: int) -> int:
        key = str(number)
        if key not in self._opened:
            self._opened[key] = open_source(self._sources[key]) if key in self._sources else self._root
        return self._opened[key]

    # -- copying

    def _copy(self, action: dict[str, Any]) -> None:
        source = self._source(action["source"]) if action["source"] >= 0 else -1
        if source < 0:
            raise NotFound(f'"{action["src"]}": not found')
        owner = self._owner(action["owner"])
        manner = Manner(
            owner=owner,
            mode=parse_mode(action["mode_text"]) if action["mode_text"] else action["mode"],
            time_ns=action["time_ns"],
            include=Ignore(action["include"]) if action["include"] else None,
            exclude=Ignore(action["exclude"]) if action["exclude"] else None,
            replace=action["replace"],
            contents_only=action["contents_only"],
        )
        for path in action["required"]:
            os.close(found_at(source, path, follow=True).fd)
        copier = Copier(self._root, manner)
        destination = action["dest"]
        if not action["make_parents"]:
            os.close(
                paths.open_in_root(self._root, posixpath.dirname(paths.absolute(destination)), os.O_PATH)
            )
        for found in _sources(source, action):
            if action["unpack"] and self._unpack(found, copier, destination, owner):
                continue
            copier.copy(found, posixpath.basename(found.path), destination)
            os.close(found.fd)

    def _unpack(self, found: Found, copier: Copier, destination: str, owner: tuple[int, int] | None) -> bool:
        if not is_archive(found):
            return False
        target = paths.absolute(destination)
        copier.make_directories(target, 0o755)
        fd = os.open(f"/proc/self/fd/{found.fd}", os.O_RDONLY | os.O_CLOEXEC)
        tree = Tree(self._root, target, "in_root")
        try:
            Unpacker(tree, False, owner).apply(TarReader(InputStream(fd)))
        finally:
            tree.close()
            os.close(fd)
            os.close(found.fd)
        return True

    # -- making and removing

    def _mkdir(self, action: dict[str, Any]) -> None:
        path, owner = paths.absolute(action["path"]), self._owner(action["owner"]) or (0, 0)
        mode = action["mode"] & 0o777
        try:
            if not action["parents"]:
                os.close(paths.open_in_root(self._root, posixpath.dirname(path), os.O_PATH | os.O_DIRECTORY))
            missing = not self._exists(path)
            fd = paths.make_directories(self._root, path, mode, owner)
        except NotADirectoryError:
            call = "mkdir" if self._exists(path) else "lstat"
            raise InvalidParameter(f"{call} {path}: not a directory") from None
        try:
            if missing and action["time_ns"] is not None:
                os.utime(f"/proc/self/fd/{fd}", ns=(action["time_ns"], action["time_ns"]))
        finally:
            os.close(fd)

    def _mkfile(self, action: dict[str, Any]) -> None:
        owner = self._owner(action["owner"]) or (0, 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY
        fd = paths.open_in_root(self._root, "/" + action["path"], flags, action["mode"] & 0o777)
        with open(fd, "wb") as file:
            file.write(base64.b64decode(action["data"]))
            file.flush()
            os.fchown(fd, *owner)
            if action["time_ns"] is not None:
                os.utime(fd, ns=(action["time_ns"], action["time_ns"]))

    def _symlink(self, action: dict[str, Any]) -> None:
        path = paths.absolute(action["path"])
        name = posixpath.basename(path)
        directory = paths.open_in_root(self._root, posixpath.dirname(path), os.O_PATH | os.O_DIRECTORY)
        try:
            os.symlink(action["target"], name, dir_fd=directory)
            os.chown(name, *(self._owner(action["owner"]) or (0, 0)), dir_fd=directory, follow_symlinks=False)
            if action["time_ns"] is not None:
                times = (action["time_ns"], action["time_ns"])
                os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)

    def _rm(self, action: dict[str, Any]) -> None:
        path = paths.absolute(action["path"])
        found = (
            list(matching(self._root, path.lstrip("/")))
            if action["wildcard"] and has_wildcards(path)
            else [path]
        )
        for each in found:
            self._remove(paths.absolute(each), missing_ok=action["missing_ok"])

    def _remove(self, path: str, *, missing_ok: bool) -> None:
        name = posixpath.basename(path)
        if not name:
            raise InvalidParameter("rm: invalid empty path")
        try:
            directory = paths.open_in_root(self._root, posixpath.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            if missing_ok:
                return
            raise
        try:
            remove_tree(directory, name)
        except FileNotFoundError:
            if not missing_ok:
                raise
        finally:
            os.close(directory)

    def _exists(self, path: str) -> bool:
        try:
            os.close(paths.open_in_root(self._root, path, os.O_PATH))
        except OSError:
            return False
        return True

    # -- owners

    def _owner(self, owner: dict[str, Any] | None) -> tuple[int, int] | None:
        """`{"user": …, "group": …}`, each a number, or a name and the number of the tree that knows it. An unknown user is root,
        an unknown group the user's own.
        """
        if owner is None:
            return None
        uid = gid = 0
        user, group = owner["user"], owner["group"]
        if isinstance(user, int):
            uid = gid = user
        elif user is not None:
            uid, gid = _named(self._source(user["input"]), "etc/passwd", user["name"], (2, 3), (0, 0))
        if isinstance(group, int):
            gid = group
        elif group is not None:
            gid = _named(self._source(group["input"]), "etc/group", group["name"], (2,), (gid,))[0]
        return uid, gid


def _sources(root: int, action: dict[str, Any]) -> list[Found]:
    try:
        return chosen(root, action)
    except NotFound:
        if has_wildcards(action["src"]):
            raise
        raise NotFound(f"lstat {paths.absolute(action['src'])}: no such file or directory") from None


def chosen(root: int, selector: dict[str, Any]) -> list[Found]:
    """What `src` names: one file, or all that a pattern fits. Raises `NotFound` for what is not there."""
    src, follow = selector["src"], selector["follow"]
    clean = paths.absolute(src).lstrip("/")
    if not selector["wildcard"] or not has_wildcards(clean):
        return [found_at(root, src, follow=follow)]
    found = [found_at(root, path, follow=follow) for path in matching(root, clean)]
    if not found and not selector["empty_wildcard"]:
        raise NotFound(f"{src} not found")
    return found


def _named(
    root: int, path: str, name: str, columns: tuple[int, ...], otherwise: tuple[int, ...]
) -> tuple[int, ...]:
    for fields in read_lines(root, path):
        if (
            fields[0] == name
            and len(fields) > max(columns)
            and all(fields[each].isdecimal() for each in columns)
        ):
            return tuple(int(fields[each]) for each in columns)
    return otherwise


def _shown(action: dict[str, Any]) -> str:
    return str(action.get("path") or action.get("dest") or "")
