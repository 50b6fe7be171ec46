"""What workers do in a container's root: copy out, copy in, look, list what changed.

Light on purpose: a worker is a fork of the zygote and imports this module itself.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from typing import Any

from sampan.containers.root_view import open_root
from sampan.errors import Conflict, Forbidden, InvalidParameter, NotFound
from sampan.linux import path as paths

Report = Callable[[dict[str, Any]], None]


def stat_job(args: dict[str, Any], _fds: list[int], _report: Report) -> dict[str, Any]:
    """`{name, size, mode, mtime, linkTarget}` of `path`, in the form of X-Docker-Container-Path-Stat, mode as stat(2) has it."""
    return _stat(open_root(args["view"]), args["path"])


def pack_job(args: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """`path` as a tar into fds[0]; its stat is reported before the first byte."""
    from sampan.archive.pack import pack_job as pack

    root = open_root(args["view"])
    path = args["path"]
    if path != "/":
        found = _stat(root, path)
        report(found)
        path = _followed(root, path)
    else:
        report(_stat(root, "/"))
    job = {"path": path} if args.get("name") is None else {"path": path, "name": args["name"]}
    return pack(job, [fds[0], root], report)


def unpack_job(args: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """The tar in fds[0] into directory `path`. Raises NotFound, InvalidParameter, Forbidden (read-only)."""
    from sampan.archive.unpack import unpack_job as unpack

    root = open_root(args["view"])
    directory = _open(root, args["path"])
    if not stat.S_ISDIR(os.fstat(directory).st_mode):
        raise InvalidParameter("extraction point is not a directory")
    if args["read_only"] and os.fstat(directory).st_dev == os.fstat(root).st_dev:
        raise Forbidden("container rootfs is marked read-only")
    job: dict[str, Any] = {"path": _followed(root, args["path"]), "no_overwrite": args["no_overwrite"]}
    if args.get("owner"):
        job["owner"] = args["owner"]
    return unpack(job, [fds[0], root], report)


def copy_up_job(args: dict[str, Any], _fds: list[int], _report: Report) -> dict[str, Any]:
    """Fill directory `volume` with what the container's image has at `path`, when it has a directory there."""
    from sampan.runtime.container.host import open_mount
    from sampan.volumes.copyup import copy_up

    root = -1
    for entry in args["rootfs"]:
        root = open_mount(entry)
    try:
        source = paths.open_in_root(root, args["path"], os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return {"copied": False}
    volume = os.open(args["volume"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return {"copied": copy_up(source, volume)}


def ps_job(args: dict[str, Any], _fds: list[int], _report: Report) -> dict[str, Any]:
    """The host's ps, run here because the engine never forks."""
    result = subprocess.run(
        [args["program"], *args["arguments"]], capture_output=True, text=True, errors="replace", timeout=20
    )
    return {"code": result.returncode, "output": result.stdout, "errors": result.stderr}


def _open(root: int, path: str) -> int:
    try:
        return paths.open_in_root(root, path, os.O_PATH)
    except FileNotFoundError:
        raise NotFound(f"Could not find the file {path} in container") from None
    except NotADirectoryError:
        raise InvalidParameter(f"not a directory: {path}") from None
    except OSError as error:
        raise Conflict(f"{path}: {(error.strerror or '').lower()}") from None


def _open_itself(root: int, path: str) -> int:
    """Like `_open`, but a link at the end is meant itself."""
    parent, _, name = path.rstrip("/").rpartition("/")
    directory = _open(root, parent or "/")
    try:
        return os.open(name or ".", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        raise NotFound(f"Could not find the file {path} in container") from None
    except NotADirectoryError:
        raise InvalidParameter(f"not a directory: {path}") from None
    finally:
        os.close(directory)


def _stat(root: int, path: str) -> dict[str, Any]:
    """A trailing slash or `/.` says that the path must be a directory, and that a link is to be followed."""
    follow = path.endswith(("/", "/."))
    clean = "/" + path.strip("/")
    if clean.endswith("/."):
        clean = clean[:-2] or "/"
    found = _open(root, clean) if follow or clean == "/" else _open_itself(root, clean)
    try:
        status = os.fstat(found)
        if follow and not stat.S_ISDIR(status.st_mode):
            raise InvalidParameter(f"not a directory: {path}")
        target = ""
        if stat.S_ISLNK(status.st_mode):
            target = _resolved(root, clean, os.readlink("", dir_fd=found))
        return {
            "name": os.path.basename(clean) or "/",
            "size": status.st_size,
            "mode": status.st_mode,
            "mtime": status.st_mtime_ns,
            "linkTarget": target,
        }
    finally:
        os.close(found)


def _resolved(root: int, path: str, link: str) -> str:
    """Where a link leads inside the container, as an absolute path there; lexical when its target is missing."""
    return os.path.normpath(os.path.join(os.path.dirname(path), link))


def _followed(root: int, path: str) -> str:
    """The path for the archive job: without the `/.` by which clients say "the directory's content"."""
    clean = "/" + path.strip("/")
    return clean[:-2] or "/" if clean.endswith("/.") else clean
