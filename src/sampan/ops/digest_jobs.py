"""What identifies files: names, kinds, modes, owners, links, devices, attributes and bytes, and no times. Runs in a worker."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Callable
from typing import Any

from sampan.archive.read_entry import carried_xattrs
from sampan.dockerfile.ignore import Ignore
from sampan.dockerfile.source import DockerfileError
from sampan.errors import NotFound
from sampan.linux import path as paths
from sampan.ops.choosing import open_source
from sampan.ops.file_jobs import chosen

_SOURCE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 18


def digest_job(
    args: dict[str, Any], _fds: list[int], _report: Callable[[dict[str, Any]], None]
) -> list[dict[str, str]]:
    """For each request (a list of selectors): `{"digest": …}` of the parts of `source` that they name, or `{"missing": …}`."""
    root = open_source(args["source"])
    answers = []
    for selectors in args["requests"]:
        try:
            answers.append({"digest": _digest(root, selectors)})
        except (NotFound, DockerfileError) as error:
            answers.append({"missing": str(error)})
    return answers


def _digest(root: int, selectors: list[dict[str, Any]]) -> str:
    hasher = hashlib.sha256()
    for selector in selectors:
        for found in chosen(root, {**selector, "empty_wildcard": True}):
            walk = _Walk(hasher, selector)
            # A directory is what is in it; a file has its name, unless the selector is that name already.
            name = "" if found.is_directory else posixpath.basename(found.path)
            walk.file(found.fd, name)
            os.close(found.fd)
    return f"sha256:{hasher.hexdigest()}"


class _Walk:
    """One selector's files, in order of name."""

    def __init__(self, hasher: Any, selector: dict[str, Any]) -> None:
        self._hasher = hasher
        self._include = Ignore(selector["include"]) if selector["include"] else None
        self._exclude = Ignore(selector["exclude"]) if selector["exclude"] else None
        self._first: dict[tuple[int, int], str] = {}

    def file(self, fd: int, path: str) -> None:
        """A file that an O_PATH descriptor means, and all below it."""
        status = os.fstat(fd)
        is_directory = stat.S_ISDIR(status.st_mode)
        if path == "" or self._wanted(path):
            self._describe(fd, path, status)
        elif not is_directory or (
            self._include is None and self._exclude is not None and self._exclude.skips(path)
        ):
            return
        if is_directory:
            self._members(fd, path)

    def _members(self, fd: int, path: str) -> None:
        listed = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in sorted(os.listdir(listed), key=os.fsencode):
                member = os.open(name, _SOURCE, dir_fd=listed)
                try:
                    self.file(member, f"{path}/{name}" if path else name)
                finally:
                    os.close(member)
        finally:
            os.close(listed)

    def _wanted(self, path: str) -> bool:
        return (self._include is None or self._include.excludes(path)) and (
            self._exclude is None or not self._exclude.excludes(path)
        )

    def _describe(self, fd: int, path: str, status: os.stat_result) -> None:
        mode = status.st_mode
        head = f"{path}\0{mode:o}\0{status.st_uid}\0{status.st_gid}\0"
        if stat.S_ISLNK(mode):
            head += os.readlink("", dir_fd=fd)
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            head += f"{status.st_rdev:x}"
        elif stat.S_ISREG(mode):
            head += f"{status.st_size}"
        data = os.fsencode(head)
        self._hasher.update(len(data).to_bytes(4) + data)
        if not stat.S_ISLNK(mode):
            for name, value in sorted((carried_xattrs(f"/proc/self/fd/{fd}") or {}).items()):
                self._hasher.update(os.fsencode(f"{name}\0{len(value)}\0") + value)
        if stat.S_ISREG(mode) and status.st_size:
            self._hasher.update(_file_digest(fd))


def _file_digest(fd: int) -> bytes:
    reader = paths.reopen(fd, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        hasher = hashlib.sha256()
        while data := os.read(reader, _CHUNK):
            hasher.update(data)
        return hasher.digest()
    finally:
        os.close(reader)
