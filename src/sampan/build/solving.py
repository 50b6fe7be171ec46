"""The solver put together."""

from __future__ import annotations

from sampan.build.graphs import FETCHED, Surroundings
from sampan.exporters.archives import ArchiveExporter
from sampan.exporters.cache import CacheExporter
from sampan.exporters.images import ImageExporter
from sampan.exporters.writing import ImageWriter
from sampan.ops.caches import Caches
from sampan.ops.digests import TreeDigester
from sampan.ops.directories import Directories
from sampan.ops.layering import Layering
from sampan.ops.merge import LayerTools
from sampan.ops.operations import Tools, VertexOperations
from sampan.ops.run import RunTools
from sampan.ops.trees import Trees
from sampan.solver.keeping import Keeping
from sampan.solver.solver import Solver


class Solving:
    """One per engine."""

    def __init__(self, surroundings: Surroundings, keeping: Keeping, directories: Directories) -> None:
        images, containers = surroundings.images, surroundings.containers
        content, snapshots = images.parts.content, images.parts.snapshots
        # Nothing that is copied from may lie below what is mounted on.
        anchor = surroundings.directory / "anchor"
        anchor.mkdir(mode=0o700, exist_ok=True)
        self.trees = Trees(snapshots, content.leases, surroundings.workers, anchor)
        self.run = RunTools(
            self.trees,
            Caches(directories, self.trees),
            containers.programs,
            surroundings.exec_directory,
        )
        self.layering = Layering(self.trees, content, keeping.layers)
        merge = LayerTools(self.trees, content, self.layering, keeping.layers)
        fetched = surroundings.directory / FETCHED
        self.operations = VertexOperations(
            Tools(self.trees, images, keeping.layers, directories, self.run, merge, fetched)
        )
        self.solver = Solver(keeping, content, snapshots, self.operations, TreeDigester(self.trees))
        writer = ImageWriter(images.parts, self.layering)
        self.exporter = ImageExporter(images, writer, keeping.records)
        self.archives = ArchiveExporter(writer, images.parts)
        self.cache = CacheExporter(self.layering, content)
        self.layers = keeping.layers
        self.trust = images.trust
