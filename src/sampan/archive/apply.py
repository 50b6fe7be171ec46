"""Applying a layer to a directory (OCI image spec, layer.md), the archive assumed to be an attacker's.

Layers use *whiteouts*: an empty file `.wh.name` says that `name` of the layers below is gone, `.wh..wh..opq` that
everything below in that directory is. Into an overlay upper directory they become overlay's own marks (a character
device 0:0, the attribute `trusted.overlay.opaque`); into a whole copy of the layers below they are deletions.

Refused, naming the entry: absolute names and `..`; a way that leads out through a symbolic or hard link; the same name
twice (directories excepted); whiteouts of nothing or of a parent; more data than there is room for; NULs, absurd
numbers, damaged or short archives; a digest that is not the expected one. Directory times are set at the end, for
every entry made in a directory changes them. Nothing is synced: the snapshot's commit does that once for all files.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, Literal

from sampan.archive import write_entry
from sampan.archive.beneath import Tree, clean_name, remove_tree, shown
from sampan.archive.compression import InputStream, ReadAhead
from sampan.archive.tarread import CHARACTER, DEVICE, DIRECTORY, LINK, REGULAR, SYMLINK, TarReader
from sampan.errors import InvalidParameter, SystemFailure

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


class LayerWriter:
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
        self._parents = [os.open(parent, _OPEN_DIRECTORY) for parent in parents]
        self._tree = Tree(self._root)
        self._overlay = whiteouts == "overlay"
        self._devices = devices
        room = os.fstatvfs(self._root)
        self._room = room.f_bavail * room.f_frsize if max_bytes is None else max_bytes
        self._limit = self._room
        self._made: set[str] = set()
        """Paths that this layer brought; only kept where it writes over the layers below."""
        self._whiteouts: set[str] = set()
        self._times: dict[str, Entry] = {}

    def close(self) -> None:
        self._tree.close()
        for fd in (self._root, *self._parents):
            os.close(fd)

    def apply(self, reader: TarReader) -> int:
        """Apply every entry; how many there were."""
        count = 0
        entry = None
        try:
            for entry in reader:
                count += 1
                self._entry(entry, reader)
            entry = None
            self._set_directory_times()
            reader.drain(max(self._limit, _TRAILING))
        except InvalidParameter as error:
            if entry is None or "entry " in str(error):
                raise
            raise InvalidParameter(f"entry {shown(entry.name)}: {error}") from None
        except OSError as error:
            where = f"entry {shown(entry.name)}: " if entry is not None else ""
            kind = InvalidParameter if error.errno in _ARCHIVES_FAULTS else SystemFailure
            raise kind(f"{where}{error.strerror}") from error
        return count

    def _entry(self, entry: Entry, reader: TarReader) -> None:
        path = clean_name(entry.name)
        if not path:
            if entry.kind == DIRECTORY:
                self._directory_attributes("", entry)
            return
        parent, _, name = path.rpartition("/")
        if name.startswith(WHITEOUT):
            self._whiteout(parent, name, entry)
            return
        directory = self._tree.make_directory(parent, self._inherit)
        self._account(entry)
        try:
            self._create(directory, path, name, entry, reader)
        except FileExistsError:
            self._make_way(directory, path, name, entry)
            self._create(directory, path, name, entry, reader)
        if not self._overlay:
            self._made.add(path)

    def _create(self, directory: int, path: str, name: str, entry: Entry, reader: TarReader) -> None:
        kind = entry.kind
        if kind == REGULAR:
            write_entry.write_file(directory, name, entry, reader)
        elif kind == DIRECTORY:
            self._create_directory(directory, path, name, entry)
        elif kind == SYMLINK:
            write_entry.write_symlink(directory, name, entry)
        elif kind == LINK:
            self._create_link(directory, name, entry)
        elif kind in (CHARACTER, DEVICE) and self._devices != "create":
            if self._devices == "refuse":
                raise InvalidParameter(f"entry {shown(entry.name)}: device nodes are refused")
        else:
            write_entry.check_kind(entry)
            write_entry.write_node(directory, name, entry)

    def _create_directory(self, directory: int, path: str, name: str, entry: Entry) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
                raise
        self._directory_attributes(path, entry)

    def _directory_attributes(self, path: str, entry: Entry) -> None:
        fd = self._tree.open_directory(path)
        try:
            write_entry.write_directory_attributes(fd, entry)
        finally:
            os.close(fd)
        self._times[path] = entry

    def _create_link(self, directory: int, name: str, entry: Entry) -> None:
        """A hard link, to an entry of this layer. The target's last part is not followed if it is a symbolic link."""
        target = clean_name(entry.link)
        parent, _, last = target.rpartition("/")
        if not last:
            raise InvalidParameter(f"entry {shown(entry.name)}: hard link to the root")
        try:
            os.link(
                last,
                name,
                src_dir_fd=self._tree.directory(parent),
                dst_dir_fd=directory,
                follow_symlinks=False,
            )
        except FileNotFoundError:
            raise InvalidParameter(
                f"entry {shown(entry.name)}: hard link to {shown(entry.link)}, which is not in the layer"
            ) from None

    def _make_way(self, directory: int, path: str, name: str, entry: Entry) -> None:
        """Something has the name. Only what the layers below brought, or a whiteout of this layer, may be replaced."""
        if path in self._whiteouts:
            os.unlink(name, dir_fd=directory)
            self._whiteouts.discard(path)
            if entry.kind == DIRECTORY:  # deleted below and made anew: nothing below shows through
                os.mkdir(name, 0o700, dir_fd=directory)
                os.setxattr(f"/proc/self/fd/{directory}/{name}", OPAQUE_ATTRIBUTE, b"y")
            return
        if self._overlay or path in self._made:
            raise InvalidParameter(f"entry {shown(entry.name)}: duplicate entry")
        self._remove(directory, path, name)

    def _remove(self, directory: int, path: str, name: str) -> None:
        """Remove what the layers below brought."""
        self._tree.forget_all()
        fresh = self._tree.directory(path.rpartition("/")[0])
        remove_tree(fresh, name)

    # -- whiteouts

    def _whiteout(self, parent: str, name: str, entry: Entry) -> None:
        if name == OPAQUE:
            self._opaque(parent)
            return
        if name.startswith(_META):
            return  # aufs's own bookkeeping
        hidden = name.removeprefix(WHITEOUT)
        if hidden in ("", ".", ".."):
            raise InvalidParameter(f"entry {shown(entry.name)}: invalid whiteout")
        path = f"{parent}/{hidden}" if parent else hidden
        if self._overlay:
            self._mark_hidden(parent, path, hidden)
        elif path not in self._made:
            try:
                directory = self._tree.directory(parent)
                os.lstat(hidden, dir_fd=directory)
            except FileNotFoundError:
                return  # it never was there
            self._remove(directory, path, hidden)

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
        fd = self._tree.open_directory(parent)
        try:
            for name in os.listdir(fd):
                self._clear_below(fd, f"{parent}/{name}" if parent else name, name)
        finally:
            os.close(fd)
        self._tree.forget_all()

    def _clear_below(self, directory: int, path: str, name: str) -> None:
        """Remove what the layers below brought at and beneath `path`, keeping what this layer did."""
        if path not in self._made and not any(each.startswith(f"{path}/") for each in self._made):
            remove_tree(directory, name)
        elif stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
            inner = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
            try:
                for child in os.listdir(inner):
                    self._clear_below(inner, f"{path}/{child}", child)
            finally:
                os.close(inner)

    # -- attributes and limits

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

    def _account(self, entry: Entry) -> None:
        """Hold what an entry will take against the limit before a byte of it is written."""
        if entry.kind == REGULAR:
            self._room -= entry.size
            if self._room < 0:
                raise InvalidParameter(
                    f"entry {shown(entry.name)}: {entry.size} bytes exceed the limit of {self._limit} bytes for the layer"
                )

    def _set_directory_times(self) -> None:
        for path, entry in self._times.items():
            accessed = entry.atime_ns if entry.atime_ns is not None else entry.mtime_ns
            try:
                fd = self._tree.open_directory(path)
            except FileNotFoundError:
                continue  # a later opaque mark took it
            try:
                os.utime(fd, ns=(max(accessed, entry.mtime_ns), entry.mtime_ns))
            finally:
                os.close(fd)


_ARCHIVES_FAULTS = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EXDEV,
        errno.EINVAL,
        errno.EMLINK,
    }
    | {errno.EOVERFLOW, errno.EFBIG, errno.EEXIST, errno.ENOTEMPTY}
)


def _copy_directory_attributes(source: int, target: int) -> None:
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith(("trusted.overlay.", "user.overlay.")):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
