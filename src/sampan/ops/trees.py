"""File trees: as mounts, as roots for workers, and as new snapshots on old ones."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.containers.root_view import view_arguments
from sampan.content.interface import Lease, snapshot_resource
from sampan.errors import NotFound, NotSupported
from sampan.snapshots.interface import VOLATILE, Snapshotter
from sampan.solver.interface import Tree
from sampan.zygote.workers import Workers

if TYPE_CHECKING:
    from sampan.content.interface import Leases
    from sampan.oci.runtime import Mount

PREFIX = "solver-"
"""Snapshots of results are named so, and those that are being made."""


JOBS = (
    "sampan.archive.diff",
    "sampan.build.ignore_jobs",
    "sampan.ops.cache_jobs",
    "sampan.ops.digest_jobs",
    "sampan.ops.file_jobs",
    "sampan.runtime.container.host",
)
"""What workers do for builds: imported once, at the first build, and not by each worker."""


class Trees:
    """See the module."""

    def __init__(self, snapshots: Snapshotter, leases: Leases, workers: Workers, anchor: Path) -> None:
        self.snapshots = snapshots
        self.workers = workers
        self._leases = leases
        self._anchor = anchor
        """An existing directory that a worker, in a mount namespace of its own, may mount on."""

    async def mounts(self, tree: Tree) -> list[Mount]:
        """What it takes to see a tree, read-only; none for the empty one."""
        if tree.directory:
            return [
                {"destination": "/", "type": "bind", "source": tree.directory, "options": ["rbind", "ro"]}
            ]
        return await self.snapshots.read_mounts(tree.snapshot) if tree.snapshot else []

    async def source(self, tree: Tree) -> dict[str, Any]:
        """A tree as workers open it (`ops.choosing.open_source`)."""
        if tree.directory:
            return {"directory": tree.directory}
        return {"rootfs": await self.mounts(tree)} if tree.snapshot else {"empty": True}

    @asynccontextmanager
    async def growing(self, base: Tree, lease: Lease) -> AsyncIterator[Growth]:
        """A writable snapshot on a tree, for the block to fill and commit; removed when it does not."""
        if base.directory:
            raise NotSupported("a client's directory as what is written on")
        growth = Growth(self.snapshots, f"{PREFIX}{secrets.token_hex(16)}")
        await self._leases.add(lease, snapshot_resource(growth.key), snapshot_resource(growth.name))
        await self.snapshots.prepare(growth.key, base.snapshot, labels={VOLATILE: "true"})
        try:
            yield growth
        finally:
            if not growth.committed:
                await asyncio.shield(self._discard(growth.key))

    async def view_of(self, growth: Growth) -> dict[str, Any]:
        """A growing snapshot as a worker's root (`containers.root_view.open_root`)."""
        return view_arguments(
            pid=0,
            rootfs=await self.snapshots.mounts(growth.key),
            mounts=(),
            anchor=str(self._anchor),
            bare=True,
        )

    async def run(self, target: str, arguments: Mapping[str, Any], fds: tuple[int, ...] = ()) -> Any:
        """Call a worker."""
        await self.workers.preload(JOBS)
        return await self.workers.run(target, dict(arguments), fds)

    async def _discard(self, key: str) -> None:
        try:
            await self.snapshots.remove(key)
        except NotFound:
            return


class Growth:
    """A snapshot that grows."""

    def __init__(self, snapshots: Snapshotter, name: str) -> None:
        self._snapshots = snapshots
        self.name = name
        self.key = f"{name}.new"
        self.committed = False

    async def commit(self) -> Tree:
        """It grows no more. It is not durable by itself: see `solver.records`."""
        await self._snapshots.commit(self.name, self.key, durable=False)
        self.committed = True
        return Tree(self.name)
