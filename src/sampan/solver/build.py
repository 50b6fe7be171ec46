"""One build: which results it needs, in what order, and where each comes from.

Keys are asked for before results, from the inputs up, and asking executes nothing except what counts by content: a step whose
key is known needs none of what it was made from. Then each result is looked up by its key, and executed where there is none:
its inputs at the same time, as far as they don't need each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sampan.content.interface import Lease, snapshot_resource
from sampan.errors import InvalidParameter, SampanError
from sampan.llb.graph import Edge, Graph, Vertex, ancestry
from sampan.names.names import new_id
from sampan.registry.credentials import ANONYMOUS, Credentials
from sampan.solver import keys
from sampan.solver.failures import VertexFailed
from sampan.solver.imports import Imports
from sampan.solver.interface import EMPTY, Identity, Operation, Selector, Tree
from sampan.solver.progress import Progress, Reporter

if TYPE_CHECKING:
    from sampan.solver.sessions import Session
    from sampan.solver.solver import Solver

T = TypeVar("T")


class Key(NamedTuple):
    """What a vertex's result is stored under, and further keys that shall lead there once it is."""

    canonical: str
    further: tuple[str, ...] = ()
    kept: bool = True


class Build:
    """One build of a `Solver`; `Solver.build` makes and closes them. `close` ends everything that it still does."""

    def __init__(self, solver: Solver, lease: Lease, session: Session | None) -> None:
        self.id = new_id()
        self.solver = solver
        self.lease = lease
        """Keeps all that this build uses."""
        self.session = session
        """Whom its sources ask that name no session."""
        self.progress = Progress()
        self.settings: dict[str, Any] = {}
        """What the composition above wants its operations to know (limits of programs, networks)."""
        self.notes: dict[str, dict[str, str]] = {}
        """By vertex: what sources were resolved to, for provenance."""
        self.imports = Imports(solver.records, lease, self.progress)
        self.left_files = False
        """Whether it has kept what a program that failed has written: nobody's once the build has ended."""
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._operations: dict[str, Operation] = {}
        self._reporters: dict[str, Reporter] = {}
        self._tasks: dict[tuple[str, str, int], asyncio.Task[Any]] = {}
        self._waiting: dict[str, asyncio.Event] = {}
        self._executed: set[str] = set()
        self.snapshots: set[str] = set()
        """What it uses, as far as it has found or made it."""
        self._served: set[int] = set()

    async def solve(self, graph: Graph) -> Tree:
        """The result of a graph. Raises `VertexFailed`, `InvalidParameter` for a graph that makes no sense."""
        if graph.result is None:
            return EMPTY
        for vertex in graph.vertices():
            if vertex.inputs:
                self._begin("foreseen", vertex, 0, partial(self._foresee, vertex))
        try:
            return await self.result(graph.result)
        except VertexFailed as failure:
            if failure.source is None:
                failure.source = graph.source
            raise

    async def result(self, edge: Edge) -> Tree:
        """One output of a vertex."""
        return await self._once("result", edge.vertex, edge.index, lambda: self._find_or_make(edge))

    async def key(self, vertex: Vertex) -> Key:
        """What the vertex's result is stored under."""
        return await self._once("key", vertex, 0, lambda: self._key(vertex))

    async def stored(self, edge: Edge) -> tuple[str, Tree | None]:
        """The canonical key of an edge, and its result if that is here."""
        key = await self._edge_key(edge)
        return key, await self._stored(key)

    def known(self, edge: Edge) -> Tree | None:
        """The result of an edge, if this build has come to have it; it does nothing to get there."""
        task = self._tasks.get(("result", edge.vertex.digest, edge.index))
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        tree: Tree = task.result()
        return tree

    async def credentials(self, domain: str) -> Credentials:
        """What the client has for a registry; anonymous without a client."""
        return await self.session.credentials(domain) if self.session is not None else ANONYMOUS

    def client(self, id: str, what: str) -> Session:
        """Whom a source asks that names a session, or none (then it is the build's own client).

        Raises `InvalidParameter` when there is nobody: `what` says what was to be asked for.
        """
        session, own = None, self.session
        if id and (own is None or own.id != id):
            session = self.solver.sessions.get(id)
        session = session or own
        if session is None:
            raise InvalidParameter(f"no active session for {id or what}")
        return session

    def at_end(self, release: Callable[[], Awaitable[None]]) -> None:
        """Call this when the build closes, last one first."""
        self._closing.append(release)

    async def close(self) -> None:
        """End what still goes on, and let go of everything. What is finished stays for later builds."""
        await self.imports.close()
        unfinished = [task for task in self._tasks.values() if not task.done()]
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)
        for task in self._tasks.values():
            if not task.cancelled():
                task.exception()  # seen
        for release in reversed(self._closing):
            await release()
        if self._served:
            await self.solver.records.used(self._served)
        self.progress.close()

    # -- keys

    async def _key(self, vertex: Vertex) -> Key:
        identity = await self._identity(vertex)
        if not identity.kept:
            return Key(keys.salted(identity.digest, self.id), kept=False)
        try:
            key = await self._stored_key(vertex, identity)
        except VertexFailed:
            raise
        except SampanError as error:  # a file that is copied and is not there
            raise VertexFailed(vertex, error) from error
        if vertex.metadata.ignore_cache:
            return Key(keys.salted(key.canonical, self.id), (*key.further, key.canonical))
        return key

    async def _identity(self, vertex: Vertex) -> Identity:
        return await self._once("identity", vertex, 0, lambda: self._identify(vertex))

    async def _identify(self, vertex: Vertex) -> Identity:
        try:
            identity = await self._operation(vertex).identify()
        except SampanError as error:
            report = self._reporter(vertex)
            report.add(self.progress)
            report.start()
            report.complete(str(error))
            raise VertexFailed(vertex, error) from error
        _check(vertex, identity)
        return identity

    async def _foresee(self, vertex: Vertex) -> None:
        """Begin with what is wanted of a client's files: nothing but their content will identify what is made of them.

        So all that is looked at of one directory is looked at together.
        """
        identity = await self._identity(vertex)
        for edge, how in zip(vertex.inputs, identity.inputs, strict=True):
            if how.by_content and not (await self._identity(edge.vertex)).kept:
                self._begin_content(edge, how.selectors)

    async def _stored_key(self, vertex: Vertex, identity: Identity) -> Key:
        inputs = await self._input_keys(vertex, identity)
        fast = keys.fast_key(identity, inputs)
        # A key that a client's files are in for this build only leads nobody anywhere.
        kept = [(await self.key(edge.vertex)).kept for edge in vertex.inputs]
        lasting = [fast] if all(kept) else []
        known = await self.imports.canonical(fast) if lasting else None
        if known is not None:
            return Key(known, (fast,))
        if not any(each.by_content for each in identity.inputs):
            return Key(fast, (fast,))
        executes = any(each and how.by_content for each, how in zip(kept, identity.inputs, strict=True))
        if executes or not self.imports.wanted:
            # With imports, what stands above may be found by its key once the client's files are here: nothing is begun early.
            self._waits(vertex).set()
        parts = await _together(
            asyncio.shield(self._begin_content(edge, how.selectors)) if how.by_content else _same(key)
            for edge, how, key in zip(vertex.inputs, identity.inputs, inputs, strict=True)
        )
        slow = keys.slow_key(identity, parts)
        canonical = await self.imports.canonical(slow)
        if canonical is not None:
            await self.solver.records.lead(lasting, canonical)
            return Key(canonical, (slow, *lasting))
        return Key(slow, (slow, *lasting))

    async def _input_keys(self, vertex: Vertex, identity: Identity) -> list[str]:
        """The canonical keys of the inputs.

        Where one of them waits for something to be executed, what this vertex wants the content of is begun meanwhile: it will be
        needed, or is there already. So stages that are copied from run at the same time.
        """
        keys = asyncio.ensure_future(_together(self._edge_key(edge) for edge in vertex.inputs))
        waits = [asyncio.ensure_future(self._waits(edge.vertex).wait()) for edge in vertex.inputs]
        try:
            await asyncio.wait({keys, *waits}, return_when=asyncio.FIRST_COMPLETED)
            if not keys.done():
                self._waits(vertex).set()
                for edge, how in zip(vertex.inputs, identity.inputs, strict=True):
                    if how.by_content:
                        self._begin("result", edge.vertex, edge.index, partial(self._find_or_make, edge))
            return await keys
        finally:
            for each in (keys, *waits):
                each.cancel()

    def _waits(self, vertex: Vertex) -> asyncio.Event:
        """Set when the vertex's key waits for something to be executed."""
        return self._waiting.setdefault(vertex.digest, asyncio.Event())

    async def _edge_key(self, edge: Edge) -> str:
        return keys.output_key((await self.key(edge.vertex)).canonical, edge.index)

    def _begin_content(self, edge: Edge, selectors: Sequence[Selector]) -> asyncio.Task[str]:
        selection = keys.selection(selectors)
        work = partial(self._content, edge, selectors, selection)
        return self._begin(f"content {selection}", edge.vertex, edge.index, work)

    async def _content(self, edge: Edge, selectors: Sequence[Selector], selection: str) -> str:
        tree = await self.result(edge)
        if not tree.snapshot:
            return await self.solver.digester.digest(tree, selectors)
        records = self.solver.records
        digest = await records.content(tree.snapshot, selection)
        if digest is None:
            digest = await self.solver.digester.digest(tree, selectors)
            await records.store_content(tree.snapshot, selection, digest)
        return digest

    # -- results

    async def _find_or_make(self, edge: Edge) -> Tree:
        vertex = edge.vertex
        key = await self.key(vertex)
        name = keys.output_key(key.canonical, edge.index)
        # What is this build's only is nowhere yet.
        found = await self._stored(name) if key.kept else None
        if found is None and key.kept:
            found = await self.imports.fetched(name, vertex)
        if found is not None:
            if found.snapshot:
                self.snapshots.add(found.snapshot)
            self._tell_cached(vertex)
            return found
        trees = await self._once("trees", vertex, 0, lambda: self._make(vertex, key))
        if edge.index >= len(trees):
            raise VertexFailed(
                vertex, InvalidParameter(f"invalid output index {edge.index}: there are {len(trees)}")
            )
        return trees[edge.index]

    async def _stored(self, key: str) -> Tree | None:
        found = await self.solver.records.result(key)
        if found is None:
            return None
        if found.snapshot:
            # Leased first, looked at afterwards: nobody can collect it in between.
            await self.solver.leases.add(self.lease, snapshot_resource(found.snapshot))
            if not await self.solver.exists(found.snapshot):
                await self.solver.records.forget([found.id])
                return None
            self.snapshots.add(found.snapshot)
        self._served.add(found.id)
        return Tree(found.snapshot)

    async def _make(self, vertex: Vertex, key: Key) -> list[Tree]:
        inputs = await _together(self.result(edge) for edge in vertex.inputs)
        self._executed.add(vertex.digest)

        async def work(report: Reporter) -> list[Tree]:
            return await self.solver.execute(self, vertex, self._operation(vertex), key, inputs, report)

        trees = await self.solver.flights.join(key.canonical, self._reporter(vertex), self.progress, work)
        snapshots = [tree.snapshot for tree in trees if tree.snapshot]
        if snapshots:
            self.snapshots.update(snapshots)
            await self.solver.leases.add(self.lease, *(snapshot_resource(each) for each in snapshots))
        return trees

    # -- telling

    def _reporter(self, vertex: Vertex) -> Reporter:
        reporter = self._reporters.get(vertex.digest)
        if reporter is None:
            reporter = self._reporters[vertex.digest] = Reporter(vertex)
        return reporter

    def _tell_cached(self, vertex: Vertex) -> None:
        """Also of what it stands on and nobody else had to execute."""
        for each in ancestry(vertex):
            if each.digest not in self._executed:
                self._executed.add(each.digest)
                reporter = self._reporter(each)
                reporter.add(self.progress)
                reporter.cached()

    def _operation(self, vertex: Vertex) -> Operation:
        operation = self._operations.get(vertex.digest)
        if operation is None:
            try:
                operation = self.solver.operations.of(vertex, self)
            except SampanError as error:
                raise VertexFailed(vertex, error) from error
            self._operations[vertex.digest] = operation
        return operation

    async def _once(
        self, what: str, vertex: Vertex, index: int, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """Do it at the first call, wait for it at every further one. Who is cancelled does not end it for the others."""
        result: T = await asyncio.shield(self._begin(what, vertex, index, work))
        return result

    def _begin(
        self, what: str, vertex: Vertex, index: int, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> asyncio.Task[T]:
        task = self._tasks.get((what, vertex.digest, index))
        if task is None:
            task = self._tasks[what, vertex.digest, index] = asyncio.create_task(work())
        return task


async def _together(work: Any) -> list[Any]:
    """All at once; the first failure is raised, the others go on, for somebody else may wait for them."""
    coroutines = list(work)
    if len(coroutines) == 1:
        return [await coroutines[0]]
    return list(await asyncio.gather(*coroutines))


async def _same(key: str) -> str:
    return key


def _check(vertex: Vertex, identity: Identity) -> None:
    if identity.kept and len(identity.inputs) != len(vertex.inputs):
        raise AssertionError(f"{vertex.name} has {len(vertex.inputs)} inputs, not {len(identity.inputs)}")
