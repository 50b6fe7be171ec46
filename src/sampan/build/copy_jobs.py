"""What workers do for `COPY` and `ADD`. Light on purpose: a worker is a fork of the zygote and imports this module itself."""

from __future__ import annotations

import os
import posixpath
import stat
import threading
from collections.abc import Callable
from typing import Any

from sampan.archive.beneath import Tree
from sampan.archive.compression import InputStream, OutputStream
from sampan.archive.tarread import TarReader
from sampan.archive.tarwrite import TarWriter
from sampan.archive.unpack import Unpacker
from sampan.build.sources import Attributes, SourceReader, inline, with_attributes
from sampan.containers.root_view import open_root
from sampan.dockerfile.ignore import Ignore
from sampan.errors import InvalidParameter, SampanError
from sampan.linux import path as paths
from sampan.ops.choosing import Found, choose, is_archive, open_source
from sampan.runtime.container import users
from sampan.runtime.interface import LaunchError

Report = Callable[[dict[str, Any]], None]


def digest_job(args: dict[str, Any], _fds: list[int], _report: Report) -> dict[str, Any]:
    """`{"digest": …, "kind": "file" | "dir" | "multi"}` of the chosen files: names, modes, owners, links and bytes, not times."""
    attributes = Attributes((0, 0) if args["owned_by_root"] else None, args["mode"], dated=False)
    found = choose(open_source(args["source"]), args["patterns"], args["what"])
    out = OutputStream(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
    writer = TarWriter(out)
    reader = SourceReader(writer, attributes, Ignore(args["excludes"]))
    for number, each in enumerate(found):
        reader.pack(each, f"{number}" if each.is_directory else f"{number}/{posixpath.basename(each.path)}")
    _inline(writer, args["inline"], "inline", attributes)
    writer.finish()
    out.close()
    count = len(found) + len(args["inline"])
    kind = "multi" if count > 1 else "dir" if found and found[0].is_directory else "file"
    return {"digest": out.digest, "kind": kind}


def copy_job(args: dict[str, Any], _fds: list[int], _report: Report) -> dict[str, Any]:
    """Copy the chosen files into the view's root at `destination`. Raises in the words of `docker build`."""
    found = choose(open_source(args["source"]), args["patterns"], args["what"])
    root = open_root(args["view"])
    umask = os.umask(0)
    try:
        _Copy(args, root).run(found)
    finally:
        os.umask(umask)
    return {}


class _Copy:
    """One instruction's work."""

    def __init__(self, args: dict[str, Any], root: int) -> None:
        self._args = args
        self._root = root
        owner = (0, 0) if args["owned_by_root"] else None
        if args["owner"]:
            identity = _identity(root, args["owner"])
            group = identity.gid if ":" in args["owner"] or not args["owner"].isdecimal() else identity.uid
            owner = (identity.uid, group)
        self._owner = owner
        self._attributes = Attributes(owner, args["mode"], dated=True)

    def run(self, found: list[Found]) -> None:
        destination = self._args["destination"]
        target = posixpath.normpath("/" + destination).lstrip("/")
        archives = [each for each in found if self._args["unpack"] and is_archive(each)]
        files = [each for each in found if each not in archives]
        into = (
            destination.endswith(("/", "/."))
            or len(found) + len(self._args["inline"]) > 1
            or any(each.is_directory for each in found)
            or bool(archives)
            or self._is_directory(target)
        )
        if into:
            self._make_directory(target)
        self._write(files, target, into=into)
        for each in archives:
            self._unpack(each, target)

    def _is_directory(self, path: str) -> bool:
        try:
            fd = paths.open_in_root(self._root, path or "/", os.O_PATH)
        except OSError:
            return False
        try:
            return stat.S_ISDIR(os.fstat(fd).st_mode)
        finally:
            os.close(fd)

    def _make_directory(self, path: str) -> None:
        tree = Tree(self._root, "", "in_root")
        try:
            tree.make_directory(path, self._own)
        except (NotADirectoryError, InvalidParameter):
            raise InvalidParameter(
                f"{self._args['what']} failed: cannot copy to non-directory: /{path}"
            ) from None
        finally:
            tree.close()

    def _own(self, fd: int, _path: str) -> None:
        """A directory that the copy makes."""
        os.fchmod(fd, 0o755)
        os.fchown(fd, *(self._owner or (0, 0)))

    def _write(self, found: list[Found], target: str, *, into: bool) -> None:
        """The chosen files through a pipe: a thread packs, this one unpacks."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        failure: list[BaseException] = []

        def pack() -> None:
            try:
                out = OutputStream(writer)
                archive = TarWriter(out)
                packer = SourceReader(archive, self._attributes, Ignore(self._args["excludes"]))
                for each in found:
                    name = posixpath.basename(each.path)
                    packer.pack(
                        each, target if each.is_directory or not into else posixpath.join(target, name)
                    )
                _inline(archive, self._args["inline"], target if into else None, self._attributes, target)
                archive.finish()
                out.close()
            except BaseException as error:  # told by the thread that waits for us
                failure.append(error)
            finally:
                os.close(writer)

        packing = threading.Thread(target=pack)
        packing.start()
        tree = Tree(self._root, "", "in_root")
        try:
            Unpacker(tree, False, None).apply(TarReader(InputStream(reader)))
        except SampanError:
            if not failure:
                raise
        finally:
            os.close(reader)
            packing.join()
            tree.close()
        if failure and not isinstance(failure[0], BrokenPipeError):
            raise failure[0]

    def _unpack(self, found: Found, target: str) -> None:
        fd = os.open(f"/proc/self/fd/{found.fd}", os.O_RDONLY | os.O_CLOEXEC)
        tree = Tree(self._root, target, "in_root")
        try:
            owner = self._owner if self._args["owner"] else None
            Unpacker(tree, False, owner).apply(TarReader(InputStream(fd)))
        finally:
            tree.close()
            os.close(fd)


def _identity(root: int, owner: str) -> users.Identity:
    try:
        return users.resolve(root, owner, [])
    except LaunchError as error:
        raise InvalidParameter(str(error)) from None


def _inline(
    writer: TarWriter,
    files: list[list[str]],
    directory: str | None,
    attributes: Attributes,
    name: str = "",
) -> None:
    """Heredocs: below `directory`, or as `name` when there is none."""
    for title, text in files:
        path = name if directory is None else posixpath.join(directory, title)
        entry, fd = inline(path, text.encode(errors="surrogateescape"))
        writer.add(with_attributes(entry, attributes), fd)
        os.close(fd)
