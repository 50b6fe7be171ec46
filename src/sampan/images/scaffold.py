"""What every container finds in its root although its image lacks it: the places that are mounted on, `/.dockerenv`, `/etc/mtab`.

They are a layer of their own between the image and the container's writable one, made once per image. So the runtime never has to
make a mount point in a container's own layer, where it would count as the container's change: `docker diff` does not show it,
`docker commit` does not take it along, a container that wrote nothing has size 0. dockerd has such a layer too, one per container.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any

from sampan.archive.apply import apply_job
from sampan.archive.compression import OutputStream
from sampan.archive.tarread import DIRECTORY, REGULAR, SYMLINK, Entry
from sampan.archive.tarwrite import TarWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PLACES: tuple[tuple[str, str, str], ...] = (
    (".dockerenv", REGULAR, ""),
    ("dev", DIRECTORY, ""),
    ("dev/console", REGULAR, ""),
    ("dev/pts", DIRECTORY, ""),
    ("dev/shm", DIRECTORY, ""),
    ("etc", DIRECTORY, ""),
    ("etc/hostname", REGULAR, ""),
    ("etc/hosts", REGULAR, ""),
    ("etc/mtab", SYMLINK, "/proc/mounts"),
    ("etc/resolv.conf", REGULAR, ""),
    ("proc", DIRECTORY, ""),
    ("sys", DIRECTORY, ""),
)
"""Path, kind and, of a link, where it leads; directories before what is in them."""

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def scaffold_name(chain_id: str) -> str:
    """Name of the snapshot that containers of an image stand on; `chain_id` is the image's, empty for one without layers."""
    return f"scaffold-{chain_id}"


def scaffold_job(
    args: dict[str, Any], _fds: Sequence[int], _report: Callable[[dict[str, Any]], None] | None = None
) -> int:
    """Add what is missing to an empty snapshot on an image; `args` is `ApplyTarget.job_args()`. How many entries were added.

    Where the image has a link or a file in a directory's place, what belongs into it is left out: nothing is ever made through a
    link that an image brought.
    """
    layers = [os.open(path, _OPEN_DIRECTORY) for path in args["parents"] or [args["target"]]]
    archive = os.memfd_create("scaffold", os.MFD_CLOEXEC)
    try:
        out = OutputStream(archive)
        writer = TarWriter(out)
        for entry in _missing(layers):
            writer.add(entry)
        writer.finish()
        out.close()
        os.lseek(archive, 0, os.SEEK_SET)
        if writer.entries:
            apply_job(args, [archive])
        return writer.entries
    finally:
        for fd in (archive, *layers):
            os.close(fd)


def _missing(layers: list[int]) -> Iterator[Entry]:
    kinds: dict[str, str] = {"": DIRECTORY}
    for path, kind, link in PLACES:
        if kinds.get(path.rpartition("/")[0]) != DIRECTORY:
            continue
        found = _kind_below(layers, path)
        kinds[path] = found or kind
        if not found:
            yield _entry(path, kind, link)


def _kind_below(layers: list[int], path: str) -> str:
    """What the layers, nearest first, have at a path whose parent is a directory or missing; empty for nothing."""
    for layer in layers:
        try:
            status = os.lstat(path, dir_fd=layer)
        except (FileNotFoundError, NotADirectoryError):
            if _hides(layer, path.rpartition("/")[0]):
                return ""
            continue
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            return ""  # a whiteout
        return DIRECTORY if stat.S_ISDIR(status.st_mode) else REGULAR
    return ""


def _hides(layer: int, directory: str) -> bool:
    """Whether nothing of the layers below shows through in the directory."""
    if not directory:
        return False
    try:
        return os.getxattr(f"/proc/self/fd/{layer}/{directory}", "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def _entry(path: str, kind: str, link: str) -> Entry:
    entry = Entry()
    entry.name, entry.kind, entry.link = path, kind, link
    entry.mode = 0o777 if kind == SYMLINK else 0o755
    entry.uid = entry.gid = entry.size = entry.real_size = entry.major = entry.minor = 0
    entry.mtime_ns = time.time_ns()
    entry.atime_ns = entry.xattrs = entry.sparse = None
    return entry
