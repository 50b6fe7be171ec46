"""The solver as a service: it opens builds, and executes what has no result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext

from sampan.content.interface import ContentStore, Leases, snapshot_resource
from sampan.errors import NotFound, SampanError
from sampan.faults import point
from sampan.llb.graph import Vertex
from sampan.snapshots.interface import Snapshotter
from sampan.solver import keys
from sampan.solver.build import Build, Key
from sampan.solver.failures import ProgramFailed, VertexFailed
from sampan.solver.flights import Flights
from sampan.solver.interface import Digester, Operation, Operations, Task, Tree
from sampan.solver.keeping import Keeping
from sampan.solver.progress import Reporter
from sampan.solver.sessions import Session, Sessions

log = logging.getLogger(__name__)


class Solver:
    """One per engine. `operations` and `digester` say what vertices do and how files are looked at."""

    def __init__(
        self,
        keeping: Keeping,
        content: ContentStore,
        snapshots: Snapshotter,
        operations: Operations,
        digester: Digester,
    ) -> None:
        self.keeping = keeping
        self.records = keeping.records
        self.layers = keeping.layers
        self.snapshots = snapshots
        self.content = content
        self.operations = operations
        self.digester = digester
        self.sessions = Sessions()
        self.flights: Flights[list[Tree]] = Flights()
        self.builds: dict[str, Build] = {}
        self.on_end: Callable[[Build], None] | None = None
        """Called when a build has ended."""

    @property
    def leases(self) -> Leases:
        """What keeps results while a build uses them."""
        return self.content.leases

    @asynccontextmanager
    async def build(self, session: Session | None = None) -> AsyncIterator[Build]:
        """A build, which ends with the block: what it has not finished is cancelled."""
        async with self.leases.hold("build") as lease:
            build = Build(self, lease, session)
            self.builds[build.id] = build
            try:
                yield build
            finally:
                # A client that goes away cancels us: what is cancelled below is to be complete all the same.
                await asyncio.shield(self._end(build))

    async def _end(self, build: Build) -> None:
        try:
            await build.close()
        finally:
            del self.builds[build.id]
            if self.on_end is not None:
                self.on_end(build)

    async def execute(
        self,
        build: Build,
        vertex: Vertex,
        operation: Operation,
        key: Key,
        inputs: Sequence[Tree],
        report: Reporter,
    ) -> list[Tree]:
        """Execute a vertex and write its results down. Raises `VertexFailed`."""
        # What is this build's only needs no lease of its own: it makes nothing that others wait for.
        holding = self.leases.hold("vertex") if key.kept else nullcontext(build.lease)
        async with holding as lease:
            used = [snapshot_resource(tree.snapshot) for tree in inputs if tree.snapshot]
            if used:
                await self.leases.add(lease, *used)
            report.start()
            try:
                trees = await operation.execute(Task(report, lease, build), inputs)
                await self._write_down(vertex, key, trees)
            except asyncio.CancelledError:
                report.complete("context canceled")
                raise
            except Exception as error:
                if not isinstance(error, SampanError):
                    log.exception("%s failed for a reason of ours", vertex.name)
                report.complete(str(error))
                raise await self._failed(build, vertex, error) from error
            report.complete()
            return trees

    async def _failed(self, build: Build, vertex: Vertex, error: Exception) -> VertexFailed:
        """With what a program left behind, which the build keeps so that its client can look at it."""
        failure = VertexFailed(vertex, error)
        if isinstance(error, ProgramFailed):
            failure.began, failure.left = error.began, error.left
            kept = [snapshot_resource(each.snapshot) for each in (*error.began, *error.left) if each.snapshot]
            if kept:
                build.left_files = True
                await self.leases.add(build.lease, *kept)
        return failure

    async def _write_down(self, vertex: Vertex, key: Key, trees: Sequence[Tree]) -> None:
        if not key.kept:
            return  # a client's files, which are this build's only
        point("solver.executed")
        for index, tree in enumerate(trees):
            name = keys.output_key(key.canonical, index)
            await self.records.store(name, tree.snapshot, "regular", vertex.name)
        await self.records.lead(key.further, key.canonical)
        point("solver.written-down")

    async def exists(self, snapshot: str) -> bool:
        """Whether a committed snapshot of that name is there."""
        try:
            return (await self.snapshots.stat(snapshot)).kind == "committed"
        except NotFound:
            return False

    async def cancel(self, build_id: str) -> None:
        """End a build from outside. Raises `NotFound`."""
        build = self.builds.get(build_id)
        if build is None:
            raise NotFound(f"no such build: {build_id}")
        await build.close()
