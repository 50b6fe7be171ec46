"""Writing an archive's entries into a tree: what applying a layer and `docker cp` have in common."""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from sampan.archive import write_entry
from sampan.archive.beneath import Tree, clean_name, shown
from sampan.archive.tarread import CHARACTER, DEVICE, DIRECTORY, LINK, REGULAR, SYMLINK, TarReader
from sampan.errors import InvalidParameter, SampanError, SystemFailure, reason_of
from sampan.linux.trees import remove_tree

if TYPE_CHECKING:
    from sampan.archive.tarread import Entry

_TRAILING = 64 << 20
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


class EntryWriter(ABC):
    """Entries one after the other into a `Tree`; a subclass says what to do with marks and with names taken."""

    def __init__(
        self,
        tree: Tree,
        devices: Literal["create", "skip", "refuse"] = "create",
        max_bytes: int | None = None,
    ) -> None:
        """`max_bytes` bounds what the files may take; without it, the free room of the file system does."""
        self._tree = tree
        self._devices = devices
        room = os.fstatvfs(tree.directory(""))
        self._room = room.f_bavail * room.f_frsize if max_bytes is None else max_bytes
        self._max_bytes = max_bytes
        self._times: dict[str, Entry] = {}

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
            reader.drain(_TRAILING)
        except InvalidParameter as error:
            if entry is None or "entry " in str(error):
                raise
            raise InvalidParameter(f"entry {shown(entry.name)}: {error}") from None
        except OSError as error:
            where = f"entry {shown(entry.name)}: " if entry is not None else ""
            kind = InvalidParameter if error.errno in _ARCHIVES_FAULTS else SystemFailure
            raise kind(f"{where}{reason_of(error)}") from error
        return count

    def _entry(self, entry: Entry, reader: TarReader) -> None:
        path = self._place_of(entry)
        if not path:
            if entry.kind == DIRECTORY:
                self._directory_attributes("", entry)
            return
        parent, _, name = path.rpartition("/")
        if self._is_mark(parent, name, entry):
            return
        directory = self._tree.make_directory(parent, self._inherit)
        self._account(entry)
        try:
            self._create(directory, path, name, entry, reader)
        except FileExistsError:
            self._make_way(path, name, entry)
            self._create(self._tree.directory(parent), path, name, entry, reader)
        self._done(path)

    def _place_of(self, entry: Entry) -> str:
        """Where in the tree the entry belongs, "" for the top. Raises InvalidParameter for a name that is none."""
        return clean_name(entry.name)

    @abstractmethod
    def _is_mark(self, parent: str, name: str, entry: Entry) -> bool:
        """Whether the entry was a mark of the format (a whiteout) rather than a file; it has been obeyed then."""

    @abstractmethod
    def _make_way(self, path: str, name: str, entry: Entry) -> None:
        """Something has the entry's name: remove it, or raise InvalidParameter."""

    @abstractmethod
    def _inherit(self, fd: int, path: str) -> None:
        """Attributes of a directory that the archive uses without naming it."""

    @abstractmethod
    def _done(self, path: str) -> None:
        """The entry is there."""

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
        """A hard link, to an entry of this layer. The target's last part is not followed if it is a symbolic link.

        A target that begins with `/` is meant from the layer's root, as Docker has it.
        """
        target = clean_name(entry.link.lstrip("/"))
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

    def _remove(self, path: str, name: str) -> None:
        """Remove what has the name, and forget what was to be done beneath it."""
        self._tree.forget_all()
        for gone in [each for each in self._times if each == path or each.startswith(f"{path}/")]:
            del self._times[gone]
        fresh = self._tree.directory(path.rpartition("/")[0])
        remove_tree(fresh, name)

    def _account(self, entry: Entry) -> None:
        """Hold what an entry will take against the limit before a byte of it is written."""
        if entry.kind == REGULAR:
            self._room -= entry.size
            if self._room < 0:
                raise self._too_much(entry)

    def _too_much(self, entry: Entry) -> SampanError:
        if self._max_bytes is None:
            return SystemFailure(f"entry {shown(entry.name)}: {entry.size} bytes: no space left on device")
        return InvalidParameter(
            f"entry {shown(entry.name)}: {entry.size} bytes exceed the limit of {self._max_bytes} bytes for the layer"
        )

    def _set_directory_times(self) -> None:
        for path, entry in self._times.items():
            accessed = entry.atime_ns if entry.atime_ns is not None else entry.mtime_ns
            try:
                fd = self._tree.open_directory(path)
            except (FileNotFoundError, InvalidParameter):
                continue  # a later opaque mark or entry took it
            try:
                os.utime(fd, ns=(max(accessed, entry.mtime_ns), entry.mtime_ns))
            finally:
                os.close(fd)
