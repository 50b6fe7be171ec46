"""Layers made by code, for the tests beside this file."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

from sampan.archive.apply import apply_job
from sampan.archive.diff import diff_job


def layer(*members: dict[str, Any], format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of members: `name` and any of `TarInfo`'s attributes, `data`, `xattrs`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for member in members:
            info = tarfile.TarInfo(member["name"])
            data = member.get("data", b"")
            info.size = len(data)
            for key, value in member.items():
                if key == "xattrs":
                    info.pax_headers.update({f"SCHILY.xattr.{name}": text for name, text in value.items()})
                elif key not in ("name", "data"):
                    setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def file(name: str, data: bytes = b"", **more: Any) -> dict[str, Any]:
    return {"name": name, "data": data, "mode": 0o644, **more}


def directory(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": tarfile.DIRTYPE, "mode": 0o755, **more}


def symlink(name: str, target: str) -> dict[str, Any]:
    return {"name": name, "type": tarfile.SYMTYPE, "linkname": target}


def hardlink(name: str, target: str) -> dict[str, Any]:
    return {"name": name, "type": tarfile.LNKTYPE, "linkname": target}


def apply(blob: bytes, target: Path, whiteouts: str = "overlay", **args: Any) -> dict[str, Any]:
    """Apply the bytes to a directory, through a file as a worker gets it."""
    fd = os.memfd_create("layer")
    try:
        os.write(fd, blob)
        os.lseek(fd, 0, os.SEEK_SET)
        return apply_job({"target": str(target), "whiteouts": whiteouts, "parents": [], **args}, [fd])
    finally:
        os.close(fd)


def diff(target: Path, compression: str = "none", **args: Any) -> tuple[dict[str, Any], bytes]:
    """The layer of what a directory changed."""
    fd = os.memfd_create("layer")
    try:
        result = diff_job({"target": str(target), "compression": compression, **args}, [fd])
        return result, os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def describe(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a tree that a layer must carry."""
    found: dict[str, tuple[object, ...]] = {}
    names: dict[tuple[int, int], list[str]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        content: object = None
        if kind == stat.S_IFREG:
            content = path.read_bytes()
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            content = status.st_rdev
        name = str(path.relative_to(root))
        if status.st_nlink > 1 and kind != stat.S_IFDIR:
            names.setdefault((status.st_dev, status.st_ino), []).append(name)
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
        }
        found[name] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content, xattrs)
    found["hard links"] = tuple(sorted(tuple(group) for group in names.values()))
    return found
