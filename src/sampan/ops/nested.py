"""`BuildOp`: a graph that stands in a file, built within the build that has made the file.

Such a file may be a program's work and name anything, also the operation that reads it: `Nesting` sees circles and depth.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from sampan.errors import InvalidParameter
from sampan.llb import ops_pb2 as pb
from sampan.llb.graph import load
from sampan.ops.choosing import open_source
from sampan.ops.reading import read_file
from sampan.solver.interface import Identity, InputKey, Selector, Task, Tree, digest_of_text

if TYPE_CHECKING:
    from sampan.llb.graph import Graph, Vertex
    from sampan.ops.trees import Trees

ADMIT = "admit"
"""Of a build's settings: what makes a graph of a definition that a file has, `Admit`."""
Admit = Callable[[pb.Definition], Awaitable["Graph"]]
"""Raises `Forbidden` for what the build's client did not allow."""

_BUILDER = -1
_INPUT = _FILE = "buildkit.llb.definition"
_FILE_NAME = "llbbuild.filename"
_LARGEST = 16 << 20
"""Bytes of a definition."""
_DEEPEST = 16


class Nesting:
    """Which nested builds wait for which, in one engine."""

    def __init__(self) -> None:
        self._inner: dict[str, set[str]] = {}
        self._depth: dict[str, int] = {}

    @contextmanager
    def within(self, vertex: Vertex, graph: Graph) -> Iterator[None]:
        """While the block lasts, a vertex waits for the nested builds of a graph. Raises `InvalidParameter` for a circle."""
        inner = {each.digest for each in graph.vertices() if each.kind == "build"}
        depth = self._depth.get(vertex.digest, 0) + 1
        if any(self._reaches(each, vertex.digest) for each in inner):
            raise InvalidParameter("invalid nested build: it needs its own result")
        if inner and depth >= _DEEPEST:
            raise InvalidParameter(f"invalid nested build: deeper than {_DEEPEST}")
        self._inner[vertex.digest] = inner
        for each in inner:
            self._depth[each] = max(depth, self._depth.get(each, 0))
        try:
            yield
        finally:
            self._inner.pop(vertex.digest, None)
            for each in inner:
                self._depth.pop(each, None)

    def _reaches(self, start: str, wanted: str) -> bool:
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            each = ahead.pop()
            if each == wanted:
                return True
            if each not in seen:
                seen.add(each)
                ahead.extend(self._inner.get(each, ()))
        return False


class NestedOperation:
    """One `BuildOp`."""

    def __init__(self, vertex: Vertex, trees: Trees, nesting: Nesting) -> None:
        """Raises `InvalidParameter`."""
        op = vertex.op.build
        self._vertex = vertex
        self._trees = trees
        self._nesting = nesting
        if op.builder != _BUILDER:
            raise InvalidParameter("only LLB builder is currently allowed")
        if _INPUT not in op.inputs:
            raise InvalidParameter(f"no llb definition input {_INPUT} found")
        self._number = op.inputs[_INPUT].input
        if not 0 <= self._number < len(vertex.inputs):
            raise InvalidParameter(f"invalid index {self._number}")
        self._file = op.attrs.get(_FILE_NAME, "") or _FILE

    async def identify(self) -> Identity:
        """The definition's bytes: what else is in the input does not count, nor other inputs."""
        counting = InputKey((Selector(f"/{self._file.lstrip('/')}"),), by_content=True)
        inputs = (
            counting if number == self._number else InputKey() for number in range(len(self._vertex.inputs))
        )
        return Identity(digest_of_text("build", self._file), tuple(inputs))

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        """Build what the file says."""
        source = await self._trees.source(inputs[self._number])
        data = await asyncio.to_thread(_read, source, self._file)
        try:
            definition = pb.Definition.FromString(data)
        except DecodeError as error:
            raise InvalidParameter(f"failed to parse {self._file}: {error}") from None
        admit: Admit = task.build.settings.get(ADMIT, _loaded)
        graph = await admit(definition)
        with self._nesting.within(self._vertex, graph):
            return [await task.build.solve(graph)]


async def _loaded(definition: pb.Definition) -> Graph:
    return load(definition)


def _read(source: dict[str, object], path: str) -> bytes:
    root = open_source(source)
    try:
        return read_file(root, path, _LARGEST)
    finally:
        os.close(root)
