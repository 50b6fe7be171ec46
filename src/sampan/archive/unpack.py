"""`docker cp` into a container: a tar into a directory of its tree, which the container may change meanwhile.

Every path is resolved by the kernel as a process in the container would (CVE-2018-15664), and nothing of the
container's is executed or loaded, no library and no helper (CVE-2019-14271): the process that does it only holds a
descriptor of the root.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from sampan.archive.beneath import Tree, clean_name
from sampan.archive.compression import InputStream
from sampan.archive.entries import EntryWriter
from sampan.archive.tarread import DIRECTORY, TarReader
from sampan.errors import InvalidParameter, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.archive.tarread import Entry


def unpack_job(
    args: dict[str, Any], fds: Sequence[int], report: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Unpack the stream fds[0] into `args["path"]` in the tree whose root is fds[1].

    `no_overwrite`: refuse to replace a directory by a file or the reverse. `owner`: [uid, gid] for everything.
    Raises NotFound when there is no such path, InvalidParameter when it is no directory or the archive is bad.
    """
    tree = Tree(fds[1], args["path"], "in_root")
    umask = os.umask(0)
    try:
        try:
            tree.directory("")
        except FileNotFoundError:
            raise NotFound(f"Could not find the file {args['path']}") from None
        except InvalidParameter:
            raise InvalidParameter("extraction point is not a directory") from None
        owner = tuple(args["owner"]) if args.get("owner") else None
        unpacker = Unpacker(tree, bool(args.get("no_overwrite")), owner)
        return {"entries": unpacker.apply(TarReader(InputStream(fds[0], report)))}
    finally:
        os.umask(umask)
        tree.close()


class Unpacker(EntryWriter):
    """Entries over what is there, as `tar -x` would."""

    def __init__(self, tree: Tree, no_overwrite: bool, owner: tuple[int, ...] | None) -> None:
        super().__init__(tree)
        self._no_overwrite = no_overwrite
        self._owner = owner

    def _entry(self, entry: Entry, reader: TarReader) -> None:
        """The directory that is unpacked into stays as it is, whatever the archive says of `.`: Docker has it so."""
        if self._place_of(entry):
            super()._entry(entry, reader)

    def _place_of(self, entry: Entry) -> str:
        """Absolute names are beneath the target too: what `tar -P` writes."""
        return clean_name(entry.name.lstrip("/"))

    def _is_mark(self, parent: str, name: str, entry: Entry) -> bool:
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        return False

    def _make_way(self, path: str, name: str, entry: Entry) -> None:
        status = os.lstat(name, dir_fd=self._tree.directory(path.rpartition("/")[0]))
        if self._no_overwrite:
            if stat.S_ISDIR(status.st_mode) and entry.kind != DIRECTORY:
                raise InvalidParameter(f'cannot overwrite directory "/{path}" with non-directory "/{path}"')
            if not stat.S_ISDIR(status.st_mode) and entry.kind == DIRECTORY:
                raise InvalidParameter(f'cannot overwrite non-directory "/{path}" with directory "/{path}"')
        self._remove(path, name)

    def _inherit(self, fd: int, path: str) -> None:
        os.fchmod(fd, 0o755)
        if self._owner is not None:
            os.fchown(fd, *self._owner)

    def _done(self, path: str) -> None:
        """Nothing to remember: a later entry of the same name replaces this one."""
