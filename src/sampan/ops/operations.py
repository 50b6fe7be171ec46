"""From a vertex to its operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sampan.errors import InvalidParameter, NotSupported
from sampan.images.service import ImageService
from sampan.llb.graph import Vertex
from sampan.ops import fetching, images, layouts, local, repositories
from sampan.ops.directories import Directories
from sampan.ops.fetching import FetchOperation
from sampan.ops.files import FileOperation
from sampan.ops.images import ImageFinder, ImageOperation
from sampan.ops.layouts import LayoutOperation
from sampan.ops.local import LocalOperation
from sampan.ops.merge import DiffOperation, LayerTools, MergeOperation
from sampan.ops.nested import NestedOperation, Nesting
from sampan.ops.repositories import GitOperation
from sampan.ops.run import RunOperation, RunTools
from sampan.ops.trees import Trees
from sampan.solver.build import Build
from sampan.solver.interface import Identity, InputKey, Operation, Task, Tree
from sampan.solver.layers import LayerTable


class Tools(NamedTuple):
    """What operations work with."""

    trees: Trees
    images: ImageService
    layers: LayerTable
    directories: Directories
    run: RunTools
    merge: LayerTools
    fetched: Path
    """A directory for what is fetched, until it is in a tree."""


class VertexOperations:
    """`solver.interface.Operations`."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self.finder = ImageFinder(tools.images)
        self._nesting = Nesting()
        self._sources: dict[str, Callable[[Vertex, Build], Operation]] = {
            images.SCHEME: self._image,
            layouts.SCHEME: lambda vertex, build: LayoutOperation(vertex, build, tools.images, tools.layers),
            local.SCHEME: lambda vertex, build: LocalOperation(vertex, build, tools.directories),
            repositories.SCHEME: lambda vertex, build: GitOperation(
                vertex, build, tools.trees, tools.fetched
            ),
            **dict.fromkeys(fetching.SCHEMES, self._fetch),
        }

    def of(self, vertex: Vertex, build: Build) -> Operation:
        """See `solver.interface.Operations`."""
        match vertex.kind:
            case "source":
                return self._source(vertex, build)
            case "exec":
                return RunOperation(vertex, self._tools.run)
            case "file":
                return FileOperation(vertex, self._tools.trees)
            case "merge":
                return MergeOperation(vertex, self._tools.merge)
            case "diff":
                return DiffOperation(vertex, self._tools.merge)
            case "build":
                return NestedOperation(vertex, self._tools.trees, self._nesting)
            case "passthrough":
                return PassthroughOperation(vertex)
        raise NotSupported(f"operation {vertex.kind!r} is not in this version of Sampan's builder")

    def _source(self, vertex: Vertex, build: Build) -> Operation:
        identifier = vertex.op.source.identifier
        scheme, separator, _ = identifier.partition("://")
        if not separator:
            raise InvalidParameter(f"failed to parse {identifier}: no scheme")
        make = self._sources.get(scheme + separator)
        if make is None:
            raise NotSupported(f"sources of {scheme}:// are not in this version of Sampan's builder")
        return make(vertex, build)

    def _image(self, vertex: Vertex, build: Build) -> Operation:
        return ImageOperation(vertex, build, self._tools.images, self.finder, self._tools.layers)

    def _fetch(self, vertex: Vertex, build: Build) -> Operation:
        return FetchOperation(vertex, build, self._tools.trees, self._tools.fetched)


class PassthroughOperation:
    """`PassthroughOp`: some of its inputs, as they are."""

    def __init__(self, vertex: Vertex) -> None:
        self._op = vertex.op.passthrough
        self._inputs = len(vertex.inputs)
        if any(not 0 <= number < self._inputs for number in self._op.outputs):
            raise InvalidParameter("invalid output of a passthrough op")

    async def identify(self) -> Identity:
        """See `Operation`."""
        text = f"passthrough {self._op.id} {list(self._op.outputs)}"
        return Identity(text, tuple(InputKey() for _ in range(self._inputs)))

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        """See `Operation`."""
        return [inputs[number] for number in self._op.outputs]
