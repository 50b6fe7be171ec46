"""Applying a layer to a directory (OCI image spec, layer.md), the archive assumed to be an attacker's.

Layers use *whiteouts*: an empty file `.wh.name` says that `name` of the layers below is gone, `.wh..wh..opq` that
everything below in that directory is. Into an overlay upper directory they become overlay's own marks (a character
device 0:0, the attribute `trusted.overlay.opaque`); into a whole copy of the layers below they are deletions.

Refused, naming the entry: absolute names and `..`; a way that leads out through a symbolic or hard link; whiteouts of
nothing or of a parent; a name that the layer has already (a directory named twice is one directory); more data than there is
room for; NULs, absurd numbers, damaged or short archives; a digest that is not the expected one. What a layer below has
under the name is removed first, never written into or through. Directory times are set at the end, for every entry made in
a directory changes them. Nothing is synced: the snapshot's commit does that once for all files.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Literal

from sampan.archive.beneath import Tree, shown
from sampan.archive.compression import InputStream, ReadAhead
from sampan.archive.entries import EntryWriter
from sampan.archive.tarread import DIRECTORY, TarReader
from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.archive.tarread import Entry

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_META = ".wh..wh."
OPAQUE_ATTRIBUTE = "trusted.overlay.opaque"
_TRAILING = 64 << 20
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def apply_job(
    args: dict[str, Any], fds: Sequence[int], report: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Apply the stream fds[0] to a directory; arguments and result as in `sampan.archive`.

    Raises InvalidParameter for the archive's faults, SystemFailure for the machine's (a full disk).
    """
    stream = InputStream(fds[0], report)
    source = ReadAhead(stream)
    umask = os.umask(0)
    try:
        layer = LayerWriter(
            args["target"],
            args["whiteouts"],
            args.get("parents", ()),
            args.get("devices", "create"),
            args.get("max_bytes"),
        )
        try:
            entries = layer.apply(TarReader(source))
        finally:
            layer.close()
    finally:
        os.umask(umask)
        source.close()
    result = {
        "diff_id": stream.diff_id,
        "digest": stream.digest,
        "size": stream.size,
        "uncompressed_size": stream.uncompressed_size,
        "entries": entries,
        "compression": stream.compression,
    }
    for key, what in (("diff_id", "layer"), ("digest", "blob"), ("size", "blob")):
        if args.get(key) is not None and args[key] != result[key]:
            raise InvalidParameter(
                f"{what} has the {key.replace('_', ' ')} {result[key]}, expected {args[key]}"
            )
    return result


class LayerWriter(EntryWriter):
    """One layer on its way onto a directory."""

    def __init__(
        self,
        target: str,
        whiteouts: Literal["overlay", "delete"],
        parents: Sequence[str],
        devices: Literal["create", "skip", "refuse"] = "create",
        max_bytes: int | None = None,
    ) -> None:
        self._root = os.open(target, _OPEN_DIRECTORY)
        super().__init__(Tree(self._root), devices, max_bytes)
        self._parents = [os.open(parent, _OPEN_DIRECTORY) for parent in parents]
        self._overlay = whiteouts == "overlay"
        self._made: set[tuple[int, int]] = set()
        """Files (device, inode) that this layer brought; only kept where it writes over the layers below."""
        self._whiteouts: set[str] = set()

    def close(self) -> None:
        self._tree.close()
        for fd in (self._root, *self._parents):
            os.close(fd)

    def _done(self, path: str) -> None:
        if not self._overlay:
            parent, _, name = path.rpartition("/")
            try:
                self._made.add(_identity(self._tree.directory(parent), name))
            except FileNotFoundError:
                return  # a device, skipped

    def _make_way(self, path: str, name: str, entry: Entry) -> None:
        """Something has the name: of the layers below, this layer's whiteout, or an earlier entry, which is refused.

        Which of two entries counts is a matter of the reader: who checks one and runs the other has been lied to.
        """
        if path in self._whiteouts:
            directory = self._tree.directory(path.rpartition("/")[0])
            os.unlink(name, dir_fd=directory)
            self._whiteouts.discard(path)
            if entry.kind == DIRECTORY:  # deleted below and made anew: nothing below shows through
                os.mkdir(name, 0o700, dir_fd=directory)
                os.setxattr(f"/proc/self/fd/{directory}/{name}", OPAQUE_ATTRIBUTE, b"y")
            return
        directory = self._tree.directory(path.rpartition("/")[0])
        if self._overlay or _identity(directory, name) in self._made:
            raise InvalidParameter(f"entry {shown(entry.name)}: the layer has this name already")
        self._remove(path, name)

    def _inherit(self, fd: int, path: str) -> None:
        """A directory that the layer uses without naming it has the attributes that it has in the layers below."""
        for parent in self._parents:
            lower = Tree(parent)
            try:
                source = lower.open_directory(path)
            except (OSError, InvalidParameter):
                continue
            finally:
                lower.close()
            try:
                _copy_directory_attributes(source, fd)
            finally:
                os.close(source)
            return
        os.fchmod(fd, 0o755)

    # -- whiteouts

    def _is_mark(self, parent: str, name: str, entry: Entry) -> bool:
        if not name.startswith(WHITEOUT):
            return False
        if name == OPAQUE:
            self._opaque(parent)
        elif not name.startswith(_META):  # else aufs's own bookkeeping
            self._whiteout(parent, name, entry)
        return True

    def _whiteout(self, parent: str, name: str, entry: Entry) -> None:
        hidden = name.removeprefix(WHITEOUT)
        if hidden in ("", ".", ".."):
            raise InvalidParameter(f"entry {shown(entry.name)}: invalid whiteout")
        path = f"{parent}/{hidden}" if parent else hidden
        if self._overlay:
            self._mark_hidden(parent, path, hidden)
        else:
            self._clear(parent, hidden)

    def _mark_hidden(self, parent: str, path: str, hidden: str) -> None:
        directory = self._tree.make_directory(parent, self._inherit)
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=directory)
        except FileExistsError:
            # The layer itself brings the name again; of a directory, what lies below must not show through.
            if path not in self._whiteouts and stat.S_ISDIR(os.lstat(hidden, dir_fd=directory).st_mode):
                os.setxattr(f"/proc/self/fd/{directory}/{hidden}", OPAQUE_ATTRIBUTE, b"y")
        else:
            self._whiteouts.add(path)

    def _opaque(self, parent: str) -> None:
        directory = self._tree.make_directory(parent, self._inherit)
        if self._overlay:
            os.setxattr(f"/proc/self/fd/{directory}", OPAQUE_ATTRIBUTE, b"y")
            return
        self._clear(parent)

    def _clear(self, parent: str, only: str | None = None) -> None:
        """Remove everything that the layers below brought in a directory, or only what has one name there."""
        try:
            fd = self._tree.open_directory(parent)
        except FileNotFoundError:
            return
        try:
            for name in os.listdir(fd):
                if only is None or name == only:
                    self._clear_below(fd, name)
        finally:
            os.close(fd)

    def _clear_below(self, directory: int, name: str) -> None:
        """Remove what the layers below brought at and beneath `name`, keeping what this layer did."""
        status = os.lstat(name, dir_fd=directory)
        ours = (status.st_dev, status.st_ino) in self._made
        if not stat.S_ISDIR(status.st_mode):
            if not ours:
                os.unlink(name, dir_fd=directory)
            return
        inner = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
        try:
            for child in os.listdir(inner):
                self._clear_below(inner, child)
            empty = not os.listdir(inner)
        finally:
            os.close(inner)
        if empty and not ours:
            self._tree.forget_all()
            os.rmdir(name, dir_fd=directory)


def _identity(directory: int, name: str) -> tuple[int, int]:
    status = os.lstat(name, dir_fd=directory)
    return status.st_dev, status.st_ino


def _copy_directory_attributes(source: int, target: int) -> None:
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith(("trusted.overlay.", "user.overlay.")):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
