"""What workers do in a container's root: copy out, copy in, look, list what changed.

Light on purpose: a worker is a fork of the zygote and imports this module itself.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from typing import Any

from sampan.containers.root_view import become_root_of, open_root
from sampan.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure, reason_of
from sampan.linux import path as paths
from sampan.runtime.container import users

Report = Callable[[dict[str, Any]], None]


def stat_job(args: dict[str, Any], _fds: list[int], _report: Report) -> dict[str, Any]:
    """`{name, size, mode, mtime, linkTarget}` of `path`, in the form of X-Docker-Container-Path-Stat, mode as stat(2) has it."""
    return _stat(open_root(args["view"]), args["path"])


def pack_job(args: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """`path` as a tar into fds[0]; its stat is reported before the first byte."""
    from sampan.archive.pack import pack_job as pack

    root = open_root(args["view"])
    path = args["path"]
    found = _stat(root, path)
    report(found)
    name = args["name"] if args["name"] is not None else found["name"]
    # What ends in a slash or a dot is the directory that a link leads to, not the link.
    return pack(
        {"path": path.rstrip("/") + "/." if path.endswith("/") else path, "name": name},
        [fds[0], root],
        report,
    )


def unpack_job(args: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """The tar in fds[0] into directory `path`. Raises NotFound, InvalidParameter, Forbidden (read-only)."""
    from sampan.archive.unpack import unpack_job as unpack

    root = open_root(args["view"])
    directory = _open(root, args["path"])
    if not stat.S_ISDIR(os.fstat(directory).st_mode):
        raise InvalidParameter("extraction point is not a directory")
    if args["read_only"] and os.fstat(directory).st_dev == os.fstat(root).st_dev:
        raise Forbidden("container rootfs is marked read-only")
    if os.fstatvfs(directory).f_flag & os.ST_RDONLY:
        raise Forbidden("mounted volume is marked read-only")
    job: dict[str, Any] = {"path": args["path"], "no_overwrite": args["no_overwrite"]}
    if args.get("user"):
        identity = users.resolve(root, args["user"], [])
        job["owner"] = [identity.uid, identity.gid]
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
    become_root_of(args["remapping"])
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
        raise InvalidParameter(f"lstat {path}: not a directory") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SystemFailure(f"evalSymlinksInScope: too many links in {path}") from None
        raise Conflict(f"{path}: {reason_of(error)}") from None


def _open_itself(root: int, path: str) -> int:
    """Like `_open`, but a link at the end is meant itself."""
    parent, _, name = path.rstrip("/").rpartition("/")
    try:
        directory = paths.open_in_root(root, parent or "/", os.O_PATH)
    except OSError:
        return _open(root, path)  # which says it of the whole path
    try:
        return os.open(name or ".", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        raise NotFound(f"Could not find the file {path} in container") from None
    except NotADirectoryError:
        raise InvalidParameter(f"lstat {path}: not a directory") from None
    finally:
        os.close(directory)


def _stat(root: int, path: str) -> dict[str, Any]:
    """A trailing slash or `/.` says that the path must be a directory, and that a link is to be followed."""
    follow = path.endswith(("/", "/.", "/.."))
    clean = path.rstrip("/") or "/"
    found = _open(root, path) if follow else _open_itself(root, clean)
    try:
        status = os.fstat(found)
        target = ""
        if stat.S_ISLNK(status.st_mode):
            target = _target(root, clean, os.readlink("", dir_fd=found))
        return {
            # The last part as it was written: clients ask for `/dir/.` when they mean what is in it.
            "name": os.path.basename(clean) or "/",
            "size": status.st_size,
            "mode": status.st_mode,
            "mtime": status.st_mtime_ns,
            "linkTarget": target,
        }
    finally:
        os.close(found)


def _target(root: int, path: str, link: str) -> str:
    """Where a link leads inside the container, as an absolute path there. Raises `SystemFailure` for a circle of links."""
    try:
        os.close(paths.open_in_root(root, path, os.O_PATH))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SystemFailure(f"evalSymlinksInScope: too many links in {path}") from None
    return os.path.normpath(os.path.join(os.path.dirname(path), link))
