"""Builds through the solver, as the engine knows them before and after there are any.

What every engine needs (what results keep, what a killed engine has left) is opened at its start; the solver itself, with
protobuf, at the first build.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sampan.build.history import History
from sampan.build.upkeep import Upkeep
from sampan.containers.service import ContainerService
from sampan.images.parts import Collection
from sampan.images.service import ImageService
from sampan.ops.directories import Directories
from sampan.ops.pinning import remove_run
from sampan.solver.keeping import Keeping
from sampan.store import Database
from sampan.zygote.workers import Workers

if TYPE_CHECKING:
    from sampan.build.solving import Solving
    from sampan.solver.build import Build


FETCHED = "fetched"
"""Below the builds' directory: files of the web and repositories, on their way into a tree."""


class Surroundings(NamedTuple):
    """What builds stand on."""

    database: Database
    images: ImageService
    containers: ContainerService
    workers: Workers
    directory: Path
    """Kept: contexts, clients' files, cache mounts."""
    exec_directory: Path
    """Of programs that run: not kept over a restart of the machine."""


class Graphs:
    """See the module. Make one with `open`; once containers are recovered, call `recover`."""

    def __init__(
        self, surroundings: Surroundings, keeping: Keeping, directories: Directories, collection: Collection
    ) -> None:
        self._surroundings = surroundings
        snapshots = surroundings.images.parts.snapshots
        self.upkeep = Upkeep(keeping, directories, snapshots, collection, self._used)
        self.keeping = keeping
        self.directories = directories
        self.history = History(surroundings.database)
        self._solving: Solving | None = None

    @classmethod
    async def open(cls, surroundings: Surroundings, collection: Collection) -> Graphs:
        """Tell the collector what results keep."""
        snapshots = surroundings.images.parts.snapshots
        keeping = Keeping(surroundings.database, snapshots)
        collection.add_roots(keeping.roots)
        directories = await Directories.open(surroundings.database, surroundings.directory / "kept")
        return cls(surroundings, keeping, directories, collection)

    async def recover(self) -> None:
        """Remove what a killed engine's builds have left, and believe no result that the disk may not have."""
        await self.keeping.recover()
        await asyncio.to_thread(_remove_runs, self._surroundings.exec_directory)
        await asyncio.to_thread(shutil.rmtree, self._surroundings.directory / FETCHED, True)

    def _used(self) -> frozenset[str]:
        """The snapshots that builds use now."""
        if self._solving is None:
            return frozenset()
        return frozenset(name for build in self._solving.solver.builds.values() for name in build.snapshots)

    def _ended(self, build: Build) -> None:
        if build.left_files:
            self._surroundings.images.housekeeping.soon()  # it may be as much as the disk had room for
        self.upkeep.tidy_soon()

    @property
    def solving(self) -> Solving:
        """The solver and what belongs to it, made at the first call."""
        if self._solving is None:
            from sampan.build.solving import Solving

            self._solving = Solving(self._surroundings, self.keeping, self.directories)
            self._solving.solver.on_end = self._ended
        return self._solving


def _remove_runs(directory: Path) -> None:
    for place in sorted(directory.iterdir()) if directory.is_dir() else ():
        remove_run(str(place))
