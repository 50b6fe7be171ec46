"""From a vertex to its operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sampan.errors import InvalidParameter, NotSupported
from sampan.images.service import ImageService
from sampan.llb.graph import Vertex
from sampan.ops import images, local
from sampan.ops.directories import Directories
from sampan.ops.files import FileOperation
from sampan.ops.images import ImageFinder, ImageOperation
from sampan.ops.local import LocalOperation
from sampan.ops.run import RunOperation, RunTools
from sampan.ops.trees import Trees
from sampan.solver.build import Build
from sampan.solver.interface import Operation
from sampan.solver.layers import LayerTable


class Tools(NamedTuple):
    """What operations work with."""

    trees: Trees
    images: ImageService
    layers: LayerTable
    directories: Directories
    run: RunTools


class VertexOperations:
    """`solver.interface.Operations`."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self.finder = ImageFinder(tools.images)
        self._sources: dict[str, Callable[[Vertex, Build], Operation]] = {
            images.SCHEME: self._image,
            local.SCHEME: lambda vertex, build: LocalOperation(vertex, build, tools.directories),
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
