"""The mounts of a program that a build runs: from LLB's to the runtime's.

Every place that is mounted on must exist. Were it made in the program's own root, it would become part of the result; so the places
are an own directory (`scaffold`) below all layers, where they are seen and never written to.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter, NotFound
from sampan.linux import path as paths
from sampan.llb import ops_pb2 as pb
from sampan.ops.caches import Caches
from sampan.ops.pinning import pin_part, unpin
from sampan.ops.trees import Growth, Trees
from sampan.solver.interface import EMPTY, Tree

if TYPE_CHECKING:
    from sampan.content.interface import Lease
    from sampan.oci.runtime import Mount
    from sampan.solver.build import Build

PLACES = ("dev", "etc", "proc", "sys", "tmp")
_FILES = ("etc/hosts", "etc/resolv.conf", "etc/hostname")


class MountSet:
    """The mounts of one run. Made within an exit stack, which takes everything back."""

    def __init__(
        self,
        trees: Trees,
        caches: Caches,
        lease: Lease,
        build: Build,
        inputs: Sequence[Tree],
        directory: Path,
        stack: AsyncExitStack,
    ) -> None:
        self._trees = trees
        self._caches = caches
        self._lease = lease
        self._build = build
        self._inputs = inputs
        self._directory = directory
        """For files of this run: secrets, sockets, the scaffold."""
        self._stack = stack
        self._places: list[tuple[str, bool]] = []
        """Of the mounts so far: where, and whether it is a file."""
        self.growths: dict[int, Growth] = {}
        """By output: what is committed when the program has succeeded."""
        self.writable: dict[str, Growth] = {}
        """By place: what the program writes to, an output or not."""

    async def made(self, mounts: Sequence[pb.Mount]) -> tuple[list[Mount], list[Mount]]:
        """(those that make the root, all others), each above what lies in it."""
        others: list[Mount] = []
        for number, mount in enumerate(sorted(mounts, key=lambda each: each.dest.count("/"))):
            if mount.dest != "/":
                others += await self._other(number, mount)
        return await self._root(next(each for each in mounts if each.dest == "/")), others

    async def _root(self, mount: pb.Mount) -> list[Mount]:
        """Once all others are known."""
        tree = self._tree(mount)
        if mount.readonly:
            if not tree.snapshot and not tree.directory:
                raise InvalidParameter("a read-only root that is empty")
            made = await self._trees.mounts(tree)
        else:
            growth = await self._grown(mount, await self._owned(tree))
            made = await self._trees.snapshots.mounts(growth.key)
        scaffold = self._directory / "scaffold"
        await asyncio.to_thread(_make_scaffold, scaffold, self._places)
        return [_above(entry, str(scaffold)) for entry in made]

    async def _other(self, number: int, mount: pb.Mount) -> list[Mount]:
        """[] for a secret or an agent that the client does not have and the program can do without."""
        match mount.mountType:
            case pb.BIND:
                made = await self._bind(number, mount)
            case pb.CACHE:
                path = await self._caches.take(mount, self._tree(mount), self._stack)
                made = [_bind(mount.dest, str(path), "ro" if mount.readonly else "rw")]
            case pb.TMPFS:
                made = [_tmpfs(mount)]
            case pb.SECRET:
                made = await self._secret(number, mount)
            case pb.SSH:
                made = await self._ssh(number, mount)
            case _:
                raise InvalidParameter(f"mount type {_kind(mount)} not implemented")
        for entry in made:
            is_file = entry["type"] == "bind" and not os.path.isdir(entry["source"])
            self._places.append((mount.dest, is_file))
        return made

    # -- by kind

    async def _bind(self, number: int, mount: pb.Mount) -> list[Mount]:
        tree = self._tree(mount)
        if mount.readonly:
            return (
                await self._part(number, mount, await self._trees.mounts(tree))
                if tree != EMPTY
                else [_tmpfs(mount)]
            )
        growth = await self._grown(mount, await self._owned(tree))
        return await self._part(number, mount, await self._trees.snapshots.mounts(growth.key))

    async def _grown(self, mount: pb.Mount, tree: Tree) -> Growth:
        growth = await self._stack.enter_async_context(self._trees.growing(tree, self._lease))
        self.writable[mount.dest] = growth
        if mount.output >= 0:
            self.growths[mount.output] = growth
        return growth

    async def _owned(self, tree: Tree) -> Tree:
        """A client's directory is not written to: what is, is a copy."""
        if not tree.directory:
            return tree
        async with self._trees.growing(EMPTY, self._lease) as growth:
            arguments = {
                "view": await self._trees.view_of(growth),
                "sources": {"0": await self._trees.source(tree)},
                "actions": [COPY_ALL],
            }
            await self._trees.run("sampan.ops.file_jobs:file_job", arguments)
            return await growth.commit()

    async def _part(self, number: int, mount: pb.Mount, made: list[Mount]) -> list[Mount]:
        """A tree, or what `selector` names in it, at the mount's place."""
        selector = paths.absolute(mount.selector)
        if selector == "/":
            return [{**entry, "destination": mount.dest} for entry in made]
        place = str(self._directory / f"part-{number}")
        self._stack.push_async_callback(asyncio.to_thread, unpin, place)
        await asyncio.to_thread(pin_part, made, selector, place)
        return [_bind(mount.dest, place, "ro" if mount.readonly else "rw")]

    async def _secret(self, number: int, mount: pb.Mount) -> list[Mount]:
        option = mount.secretOpt
        session = self._build.session
        data = await session.secret(option.ID) if session is not None else None
        if data is None:
            if option.optional:
                return []
            raise NotFound(f"secret {option.ID}: not found")
        path = self._directory / f"secret-{number}"
        _write_secret(path, data, option)
        return [_bind(mount.dest, str(path), "ro", "nosuid", "noexec", "nodev")]

    async def _ssh(self, number: int, mount: pb.Mount) -> list[Mount]:
        option = mount.sshOpt
        session = self._build.session
        path = self._directory / f"agent-{number}"
        served = session is not None and await self._stack.enter_async_context(session.ssh(option.ID, path))
        if not served:
            if option.optional:
                return []
            raise NotFound(f"unset ssh forward key {option.ID or 'default'}")
        os.chown(path, option.uid, option.gid)
        os.chmod(path, option.mode & 0o777)
        return [_bind(mount.dest, str(path), "rw", "nosuid", "noexec", "nodev")]

    def _tree(self, mount: pb.Mount) -> Tree:
        return self._inputs[mount.input] if mount.input >= 0 else EMPTY


def check_mounts(mounts: Sequence[pb.Mount], inputs: int) -> None:
    """Raises `InvalidParameter` for mounts that no program can have."""
    if not mounts:
        raise InvalidParameter("invalid exec op with no mounts")
    if [each.dest for each in mounts].count("/") != 1:
        raise InvalidParameter("invalid exec op with no rootfs")
    for mount in mounts:
        if not -1 <= mount.input < inputs:
            raise InvalidParameter(f"invalid mountinput {mount.input}")
        if not mount.dest.startswith("/") or "\0" in mount.dest:
            raise InvalidParameter(f"invalid mount destination {mount.dest!r}")
        if mount.dest == "/" and mount.mountType != pb.BIND:
            raise InvalidParameter(f"invalid mount type {_kind(mount)} for /")
        if mount.dest != "/" and paths.absolute(mount.dest) == "/":
            raise InvalidParameter(f"invalid mount destination {mount.dest!r}: that is the root")
        if mount.mountType not in pb.MountType.values():
            raise InvalidParameter(f"mount type {_kind(mount)} not implemented")


def _kind(mount: pb.Mount) -> str:
    known = mount.mountType in pb.MountType.values()
    return pb.MountType.Name(mount.mountType) if known else str(mount.mountType)


COPY_ALL = {
    "kind": "copy",
    "source": 0,
    "src": "/",
    "dest": "/",
    "owner": None,
    "mode": None,
    "mode_text": "",
    "follow": False,
    "contents_only": True,
    "unpack": False,
    "make_parents": True,
    "wildcard": False,
    "empty_wildcard": False,
    "include": [],
    "exclude": [],
    "required": [],
    "replace": False,
    "time_ns": None,
}
"""The action that copies a whole tree (`file_jobs`)."""


def _tmpfs(mount: pb.Mount) -> Mount:
    options = ["nosuid", "nodev", "mode=1777"]
    if mount.tmpfsOpt.size > 0:
        options.append(f"size={mount.tmpfsOpt.size}")
    if mount.readonly:
        options.append("ro")
    return {"destination": mount.dest, "type": "tmpfs", "source": "tmpfs", "options": options}


def _bind(destination: str, source: str, *options: str) -> Mount:
    return {
        "destination": destination,
        "type": "bind",
        "source": source,
        "options": ["rbind", "rprivate", *options],
    }


def _above(entry: Mount, scaffold: str) -> Mount:
    """An overlay mount with the scaffold as its lowest layer; any other as it is."""
    if entry.get("type") != "overlay":
        return entry
    options = [
        f"{option}:{scaffold}" if option.startswith("lowerdir=") else option for option in entry["options"]
    ]
    return {**entry, "options": options}


def _make_scaffold(directory: Path, targets: Sequence[tuple[str, bool]]) -> None:
    """The places of the mounts: (path, whether it is a file)."""
    directory.mkdir(mode=0o755)
    for name in PLACES:
        (directory / name).mkdir(mode=0o755)
    for name in _FILES:
        (directory / name).touch(mode=0o644)
    os.chmod(directory / "tmp", 0o1777)
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for target, is_file in targets:
            made = paths.make_file(root, target) if is_file else paths.make_directories(root, target)
            os.close(made)
    except OSError as error:
        raise InvalidParameter(f"mounts lie in one another's way: {error.strerror}") from None
    finally:
        os.close(root)


def _write_secret(path: Path, data: bytes, option: pb.SecretOpt) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fchown(fd, option.uid, option.gid)
        os.fchmod(fd, option.mode & 0o777)
