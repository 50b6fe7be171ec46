"""The solver by itself: operations here are made up, snapshots and rows are real."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sampan.content.local import LocalContentStore
from sampan.content.schema import CONTENT_SCHEMA
from sampan.errors import InvalidParameter
from sampan.llb import ops_pb2 as pb
from sampan.llb.graph import Vertex, load
from sampan.llb.state import Meta, Node, State, definition
from sampan.snapshots.copy import CopySnapshotter
from sampan.snapshots.records import SNAPSHOT_SCHEMA
from sampan.solver.build import Build
from sampan.solver.failures import VertexFailed
from sampan.solver.interface import Identity, InputKey, Operation, Selector, Task, Tree
from sampan.solver.keeping import Keeping
from sampan.solver.progress import VertexEvent
from sampan.solver.records import SOLVER_SCHEMA
from sampan.solver.solver import Solver
from sampan.store import Database

Work = Callable[[Sequence[str]], Awaitable[str]]


def vertex(name: str, *inputs: State, content: bool = False, ignore_cache: bool = False) -> State:
    """A vertex of a made-up kind: `name` is what it does, `content` whether its inputs count by their content."""
    op = pb.Op(source=pb.SourceOp(identifier=name, attrs={"content": "yes"} if content else {}))
    op.inputs.extend(pb.Input(digest=each.node.digest, index=each.index) for each in inputs)
    data = op.SerializeToString(deterministic=True)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return State(Node(digest, data, inputs, Meta(name=name, ignore_cache=ignore_cache)))


class World:
    """Says what vertices do: the text that each makes of its inputs' texts; counts what ran."""

    def __init__(self, snapshots: CopySnapshotter) -> None:
        self.snapshots = snapshots
        self.ran: list[str] = []
        self.works: dict[str, Work] = {}
        self.texts: dict[str, str] = {}

    def of(self, vertex: Vertex, build: Build) -> Operation:
        return _Operation(self, vertex)

    async def digest(self, tree: Tree, selectors: Sequence[Selector]) -> str:
        return hashlib.sha256(self.texts[tree.snapshot].encode()).hexdigest()

    async def make(self, name: str, inputs: Sequence[Tree]) -> Tree:
        self.ran.append(name)
        work = self.works.get(name)
        texts = [self.texts[each.snapshot] for each in inputs]
        text = await work(texts) if work else f"{name}({', '.join(texts)})"
        snapshot = f"solver-{name}-{len(self.texts)}"
        await self.snapshots.prepare(f"{snapshot}.new", "")
        await self.snapshots.commit(snapshot, f"{snapshot}.new", durable=False)
        self.texts[snapshot] = text
        return Tree(snapshot)


class _Operation:
    def __init__(self, world: World, vertex: Vertex) -> None:
        self._world = world
        self._vertex = vertex

    async def identify(self) -> Identity:
        source = self._vertex.op.source
        key = InputKey((Selector("/x"),), True) if source.attrs.get("content") else InputKey()
        return Identity(source.identifier.partition("#")[0], tuple(key for _ in self._vertex.inputs))

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        return [await self._world.make(self._vertex.op.source.identifier, inputs)]


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[tuple[Solver, World]]:
    database = await Database.open(root / "db", [CONTENT_SCHEMA, SNAPSHOT_SCHEMA, SOLVER_SCHEMA])
    snapshots = await CopySnapshotter.start(database, root / "snapshots")
    content = await LocalContentStore.start(database, root / "content")
    world = World(snapshots)
    try:
        yield Solver(Keeping(database, snapshots), content, snapshots, world, world), world
    finally:
        await snapshots.close()
        await database.close()


def solving(test: Callable[[Solver, World], Awaitable[None]], root: Path) -> None:
    async def run() -> None:
        async with opened(root) as (solver, world):
            await test(solver, world)

    asyncio.run(run())


async def solved(solver: Solver, world: World, state: State) -> str:
    async with solver.build() as build:
        return world.texts[(await build.solve(load(definition(state)))).snapshot]


def test_a_result_is_made_once(tmp_path: Path) -> None:
    async def test(solver: Solver, world: World) -> None:
        top = vertex("b", vertex("a"))
        assert await solved(solver, world, top) == "b(a())"
        assert await solved(solver, world, top) == "b(a())"
        assert world.ran == ["a", "b"]

    solving(test, tmp_path)


def test_only_what_is_needed_is_made(tmp_path: Path) -> None:
    async def test(solver: Solver, world: World) -> None:
        base = vertex("base")
        await solved(solver, world, vertex("top", base))
        vertex("other", base)
        # Of a step whose result is there, not even what it stands on.
        results = await solver.records.every()
        await solver.records.forget([each.id for each in results if each.description == "base"])
        await solved(solver, world, vertex("top", base))
        assert world.ran == ["base", "top"]

    solving(test, tmp_path)


def test_branches_run_at_the_same_time(tmp_path: Path) -> None:
    async def test(solver: Solver, world: World) -> None:
        both = asyncio.Barrier(2)

        async def meet(texts: Sequence[str]) -> str:
            await asyncio.wait_for(both.wait(), 10)  # only if the other is under way too
            return "met"

        world.works = {"left": meet, "right": meet}
        base = vertex("base")
        assert (
            await solved(solver, world, vertex("top", vertex("left", base), vertex("right", base)))
            == "top(met, met)"
        )
        assert world.ran.count("base") == 1

    solving(test, tmp_path)


def test_equal_vertices_of_two_builds_run_once(tmp_path: Path) -> None:
    async def test(solver: Solver, world: World) -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def wait(texts: Sequence[str]) -> str:
            begun.set()
            await go.wait()
            return "done"

        world.works = {"slow": wait}
        first = asyncio.create_task(solved(solver, world, vertex("x", vertex("slow"))))
        await begun.wait()
        second = asyncio.create_task(solved(solver, world, vertex("y", vertex("slow"))))
        while len(solver.builds) < 2 or not all(each.progress.events for each in solver.builds.values()):
            await asyncio.sleep(0)
        go.set()
        assert await first == "x(done)" and await second == "y(done)"
        assert world.ran.count("slow") == 1

    solving(test, tmp_path)


def test_a_build_that_leaves_does_not_end_what_another_waits_for(tmp_path: Path) -> None:
    async def test(solver: Solver, world: World) -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def wait(texts: Sequence[str]) -> str:
            begun.set()
            await go.wait()
            return "done"

        world.works = {"slow": wait}
        first = asyncio.create_task(solved(solver, world, vertex("slow")))
        await begun.wait()
        second = asyncio.create_task(solved(solver, world, vertex("slow")))
        while len(solver.builds) < 2 or not all(each.progress.events for each in solver.builds.values()):
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go.set()
        assert await second == "done"

    solving(test, tmp_path)


def test_the_last_to_leave_ends_it(tmp_path: Path) -> None:
    async def test(solver: Solver, world: World) -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def wait(texts: Sequence[str]) -> str:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError

        world.works = {"slow": wait}
        task = asyncio.create_task(solved(solver, world, vertex("top", vertex("slow"))))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set() and not solver.builds
        assert await solver.records.every() == []

    solving(test, tmp_path)


def test_equal_content_hits_however_it_came_about(tmp_path: Path) -> None:
    async def test(solver: Solver, world: World) -> None:
        async def same(texts: Sequence[str]) -> str:
            return "the same bytes"

        world.works = {"clone 1": same, "clone 2": same}
        first = vertex("test", vertex("copy", vertex("clone 1"), content=True))
        second = vertex("test", vertex("copy", vertex("clone 2"), content=True))
        await solved(solver, world, first)
        await solved(solver, world, second)
        assert world.ran == ["clone 1", "copy", "test", "clone 2"]
        # And the next time not even the clone is needed: its key leads there.
        await solved(solver, world, second)
        assert world.ran == ["clone 1", "copy", "test", "clone 2"]

    solving(test, tmp_path)


def test_a_pruned_result_is_made_again_and_what_stands_on_it_is_hit(tmp_path: Path) -> None:
    async def test(solver: Solver, world: World) -> None:
        top = vertex("test", vertex("copy", vertex("files"), content=True))
        await solved(solver, world, top)
        results = await solver.records.every()
        await solver.records.forget([each.id for each in results if each.description == "copy"])
        await solved(solver, world, top)
        assert world.ran == ["files", "copy", "test"]
        await solved(solver, world, vertex("other", vertex("copy", vertex("files"), content=True)))
        assert world.ran == ["files", "copy", "test", "copy", "other"]
        assert "copy" in {each.description for each in await solver.records.every()}

    solving(test, tmp_path)


def test_what_ignores_the_cache_is_made_and_all_that_stands_on_it(tmp_path: Path) -> None:
    async def test(solver: Solver, world: World) -> None:
        def graph(ignore: bool) -> State:
            return vertex("top", vertex("date", vertex("base"), ignore_cache=ignore))

        await solved(solver, world, graph(False))
        await solved(solver, world, graph(True))
        assert world.ran == ["base", "date", "top", "date", "top"]
        await solved(solver, world, graph(False))  # the newest counts from then on
        assert world.ran == ["base", "date", "top", "date", "top"]

    solving(test, tmp_path)


def test_a_failure_names_the_vertex_and_its_place(tmp_path: Path) -> None:
    async def test(solver: Solver, world: World) -> None:
        async def fail(texts: Sequence[str]) -> str:
            raise InvalidParameter("no such thing")

        world.works = {"bad": fail}
        bad = vertex("bad")
        made = definition(vertex("top", bad))
        made.source.infos.append(pb.SourceInfo(filename="Dockerfile", data=b"FROM a\nRUN bad\n"))
        place = pb.Range(start=pb.Position(line=2), end=pb.Position(line=2))
        made.source.locations[bad.node.digest].locations.append(pb.Location(ranges=[place]))
        async with solver.build() as build:
            with pytest.raises(VertexFailed, match="no such thing") as failed:
                await build.solve(load(made))
            assert failed.value.vertex.name == "bad"
            assert "   2 | >>> RUN bad" in failed.value.excerpt
            errors = [each for each in build.progress.events if isinstance(each, VertexEvent) and each.error]
            assert [each.name for each in errors] == ["bad"]
        assert await solver.records.every() == []
        world.works = {}
        assert await solved(solver, world, vertex("top", bad)) == "top(bad())"

    solving(test, tmp_path)


def test_progress_tells_what_was_there_already(tmp_path: Path) -> None:
    async def test(solver: Solver, world: World) -> None:
        await solved(solver, world, vertex("b", vertex("a")))
        async with solver.build() as build:
            await build.solve(load(definition(vertex("c", vertex("b", vertex("a"))))))
            told: dict[str, Any] = {
                each.name: each for each in build.progress.events if isinstance(each, VertexEvent)
            }
        assert {name: each.cached for name, each in told.items()} == {"a": True, "b": True, "c": False}
        assert all(each.started and each.completed for each in told.values())

    solving(test, tmp_path)


def test_results_are_roots_of_the_collector(tmp_path: Path) -> None:
    async def test(solver: Solver, world: World) -> None:
        await solved(solver, world, vertex("b", vertex("a")))
        kept = {each.id for each in await solver.keeping.roots() if each.kind == "snapshot"}
        assert kept == set(world.texts)

    solving(test, tmp_path)


def test_what_another_boot_wrote_without_sync_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(solver: Solver, world: World) -> None:
        await solved(solver, world, vertex("a"))
        await solver.records.synced(await solver.records.unsynced())
        await solved(solver, world, vertex("b"))
        monkeypatch.setattr("sampan.solver.records.boot_id", lambda: "another")
        await solver.keeping.recover()
        assert [each.description for each in await solver.records.every()] == ["a"]

    solving(test, tmp_path)
