"""Builds by the client's name for them: one `Control.Solve` each, and who else speaks of it (status, a frontend's requests)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sampan.buildkit.bridge import Bridge
from sampan.buildkit.policies import Policies
from sampan.errors import Conflict, InvalidParameter, NotFound
from sampan.llb import entitlements, ops_pb2
from sampan.llb.graph import Graph, load
from sampan.ops.nested import ADMIT
from sampan.solver.progress import Progress

if TYPE_CHECKING:
    from sampan.attestations.captures import ImageSource
    from sampan.attestations.predicates import Asked
    from sampan.build.interface import Follow
    from sampan.build.solving import Solving
    from sampan.buildkit.attesting import Attesting
    from sampan.buildkit.protos.sourcepolicy_pb2 import Policy
    from sampan.buildkit.waiting import Client
    from sampan.grpc.server import GrpcServer
    from sampan.solver.build import Build
    from sampan.solver.interface import Tree

PATIENCE = 6.0
"""Seconds that a request about a build waits for its solve: the client sends both at once."""
_REMEMBERED = 64
"""Ended builds whose status can still be followed from the beginning."""


class Ref:
    """A file system that a build can give, made when somebody asks for it. `definition` says how."""

    def __init__(self, build: Build, definition: ops_pb2.Definition) -> None:
        self._build = build
        self.definition = definition
        self.graph: Graph = load(definition)
        self.asked: Asked | None = None
        """The request to a frontend whose result this is."""
        self.is_made = False
        """Whether somebody has looked at the files."""

    async def tree(self) -> Tree:
        """The files. Raises `VertexFailed`."""
        tree = await self._build.solve(self.graph)
        self.is_made = True
        return tree


@dataclass(frozen=True, slots=True)
class Result:
    """What a frontend makes of a request: a file system, or one for each platform, and what goes with it."""

    refs: Mapping[str, Ref | None]
    """By platform; "" where there is only the one. None is an empty file system."""
    metadata: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def given(self) -> list[Ref]:
        """Those that are not empty."""
        return [ref for ref in self.refs.values() if ref is not None]

    async def make(self) -> None:
        """Make every file system. Raises `VertexFailed`."""
        await asyncio.gather(*(ref.tree() for ref in self.given))

    def find(self, id: str) -> Ref | None:
        """That of a platform; the only one, whatever it is called. Raises `InvalidParameter`."""
        if len(self.refs) == 1:
            (only,) = self.refs.values()
            return only
        if id not in self.refs:
            raise InvalidParameter(f"failed to find ref for ID {id}")
        return self.refs[id]

    def about(self, key: str, id: str) -> bytes:
        """Metadata about a platform, or about all of them."""
        return self.metadata.get(f"{key}/{id}", self.metadata.get(key, b""))

    @property
    def is_single(self) -> bool:
        """Whether there is one and it has no platform's name."""
        return set(self.refs) <= {""}


class Surroundings(NamedTuple):
    """What all builds of an engine have in common."""

    engine_id: str
    uploads: Path
    """Where archives of clients are unpacked; a killed engine's are removed there at the next start."""
    serve: Callable[[Bridge], GrpcServer]
    """What answers a frontend that is not at the client."""


class Job:
    """A running solve."""

    def __init__(
        self,
        ref: str,
        build: Build,
        solving: Solving,
        session: Client | None,
        inputs: Mapping[str, ops_pb2.Definition],
        allowed: Iterable[str],
        policies: Iterable[Policy],
        surroundings: Surroundings,
    ) -> None:
        self.ref = ref
        self.build = build
        self.solving = solving
        self.session = session
        self.bridge = Bridge(self, inputs)
        """Of the frontend on the client's side."""
        build.at_end(self.bridge.close)
        build.settings[ADMIT] = self._admitted
        self.uploads = surroundings.uploads
        self.serve = surroundings.serve
        self.engine_id = surroundings.engine_id
        self.policies = Policies(tuple(policies))
        """About all sources of the build."""
        self.started_ns = time.time_ns()
        self.refs: list[Ref] = []
        """All that were asked for."""
        self.images: list[ImageSource] = []
        """Those that somebody asked about, as they were named."""
        self.attesting: Attesting | None = None
        """What is to be said about the result; None for nothing."""
        self._allowed = frozenset(allowed)

    async def make(self, definition: ops_pb2.Definition, policies: Sequence[Policy] = ()) -> Ref:
        """A reference to what a definition says, its sources as the policies have them: those of the build, and these.

        Raises `InvalidParameter` for none, `Forbidden` for what was not allowed.
        """
        rules = self.policies.and_also(policies)
        ref = Ref(self.build, await rules.definition(definition, self.solving.trees))
        entitlements.check(ref.graph, self._allowed)
        self.refs.append(ref)
        return ref

    async def _admitted(self, definition: ops_pb2.Definition) -> Graph:
        return (await self.make(definition)).graph

    def need(self, entitlement: str) -> None:
        """Raises `Forbidden` unless the client of the build allowed it."""
        entitlements.need(entitlement, self._allowed)

    async def result_of(self, definition: ops_pb2.Definition, policies: Sequence[Policy] = ()) -> Result:
        """A definition alone, as a result. Raises as `make` does."""
        return Result({"": await self.make(definition, policies) if definition.ops else None})


class Jobs:
    """Those of one engine."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._running: dict[str, Job] = {}
        self._told: dict[str, Progress] = {}
        self._refused: dict[str, None] = {}
        self._news = asyncio.Condition()

    @asynccontextmanager
    async def running(
        self,
        ref: str,
        solving: Solving,
        session: Client | None,
        inputs: Mapping[str, ops_pb2.Definition],
        allowed: Iterable[str] = (),
        policies: Iterable[Policy] = (),
    ) -> AsyncIterator[Job]:
        """A build that can be found by its name while the block lasts; its end ends whatever it still does."""
        if not ref:
            raise InvalidParameter("a solve needs a ref")
        if ref in self._running:
            raise Conflict(f"job ID {ref} exists")
        async with solving.solver.build(session) as build:
            job = self._running[ref] = Job(
                ref, build, solving, session, inputs, allowed, policies, self._surroundings
            )
            self._remember(ref, build.progress)
            if session is not None:
                solving.solver.sessions.add(session)
            try:
                await self._announce()
                yield job
            finally:
                del self._running[ref]
                if session is not None:
                    solving.solver.sessions.remove(session)
                build.progress.close()

    async def find(self, ref: str) -> Job:
        """The running build of that name, when it comes soon. Raises `NotFound`."""
        await self._arrival(ref, lambda: ref in self._running)
        return self._running[ref]

    async def refuse(self, ref: str) -> None:
        """There will be no build of that name: whoever waits for it need not."""
        self._refused[ref] = None
        while len(self._refused) > _REMEMBERED:
            self._refused.pop(next(iter(self._refused)))
        await self._announce()

    def knows(self, ref: str) -> bool:
        """Whether a build of that name runs, or has ended a while ago."""
        return ref in self._told

    async def progress(self, ref: str) -> Progress:
        """What a build tells, also for some time after its end. Raises `NotFound`.

        Of one that was refused that is nothing: its client is to hear why from the solve.
        """
        await self._arrival(ref, lambda: ref in self._told or ref in self._refused)
        if ref not in self._told:
            silent = Progress()
            silent.close()
            return silent
        return self._told[ref]

    async def follow(self, ref: str, tell: Follow) -> None:
        """Pass on what a build tells, to its end; nothing of one that is refused."""
        try:
            progress = await self.progress(ref)
        except NotFound:
            return
        async for events in progress.follow():
            tell(events)

    async def _arrival(self, ref: str, there: Callable[[], bool]) -> None:
        async def arrival() -> None:
            async with self._news:
                await self._news.wait_for(lambda: there() or ref in self._refused)

        try:
            await asyncio.wait_for(arrival(), PATIENCE)
        except TimeoutError:
            raise NotFound(f"no such job {ref}") from None
        if not there():
            raise NotFound(f"no such job {ref}")

    async def _announce(self) -> None:
        async with self._news:
            self._news.notify_all()

    def _remember(self, ref: str, progress: Progress) -> None:
        self._told[ref] = progress
        while len(self._told) > _REMEMBERED:
            self._told.pop(next(iter(self._told)))
