"""Cache mounts: directories that stay between builds, and who may write to one at the same time.

`shared`: everybody; `locked`: one after the other; `private`: who comes while it is used gets another one.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from sampan.llb import ops_pb2 as pb
from sampan.ops.directories import Directories
from sampan.ops.trees import Trees
from sampan.solver.interface import EMPTY, Tree

KIND = "exec.cachemount"


class Caches:
    """The cache mounts of an engine."""

    def __init__(self, directories: Directories, trees: Trees) -> None:
        self._directories = directories
        self._trees = trees
        self._locks: dict[str, asyncio.Lock] = {}
        self._making: dict[str, asyncio.Lock] = {}

    async def take(self, mount: pb.Mount, base: Tree, stack: AsyncExitStack) -> Path:
        """The directory of a cache mount, until the stack is left."""
        name = mount.cacheOpt.ID or mount.dest
        if base != EMPTY:
            name = f"{name}:{base.snapshot or base.directory}:{mount.selector}"
        sharing = mount.cacheOpt.sharing
        if sharing == pb.LOCKED:
            await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
        async with self._making.setdefault(name, asyncio.Lock()):
            if sharing == pb.PRIVATE:
                id, path = await self._directories.take(KIND, name)
            else:
                id, path = await self._directories.share(KIND, name)
            stack.callback(self._directories.give_back, id)
            await self._begin(path, base, mount)
        return path / "data"

    async def _begin(self, path: Path, base: Tree, mount: pb.Mount) -> None:
        """The first time it is as its base is. A directory that was begun and not finished is begun again."""
        if (path / "data").exists():
            return
        await self._trees.run(
            "sampan.ops.cache_jobs:begin_job",
            {
                "place": str(path),
                "source": await self._trees.source(base),
                "selector": mount.selector,
            },
        )
