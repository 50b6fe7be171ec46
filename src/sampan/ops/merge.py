"""`MergeOp`: trees over one another, layer by layer; `DiffOp`: what one tree has that another has not, as layers."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sampan.content.interface import ContentStore
from sampan.errors import InvalidParameter, NotSupported
from sampan.llb.graph import Vertex
from sampan.names.digest import Digest
from sampan.oci.image import OCI_LAYER
from sampan.ops.layering import Layering
from sampan.ops.trees import Trees
from sampan.solver.interface import EMPTY, Identity, InputKey, Task, Tree
from sampan.solver.layers import Layer, LayerTable


class LayerTools:
    """What merging and comparing works with."""

    def __init__(self, trees: Trees, content: ContentStore, layering: Layering, table: LayerTable) -> None:
        self.trees = trees
        self.content = content
        self.layering = layering
        self.table = table

    async def stack(self, base: Tree, layers: Sequence[Layer], task: Task) -> Tree:
        """A tree with layers put on it, one snapshot each."""
        for layer in layers:
            async with self.trees.growing(base, task.lease) as growth:
                target = await self.trees.snapshots.apply_target(growth.key)
                blob = await self.content.open(Digest(layer.digest))
                try:
                    await self.trees.run("sampan.archive.apply:apply_job", target.job_args(), (blob,))
                finally:
                    os.close(blob)
                base = await growth.commit()
        return base


class MergeOperation:
    """One `MergeOp`."""

    def __init__(self, vertex: Vertex, tools: LayerTools) -> None:
        self._numbers = [each.input for each in vertex.op.merge.inputs]
        self._inputs = len(vertex.inputs)
        self._tools = tools
        if len(self._numbers) < 2:
            raise InvalidParameter("invalid merge op with less than two inputs")
        _check(self._inputs, *self._numbers)

    async def identify(self) -> Identity:
        """See `Operation`."""
        return Identity(f"merge {self._numbers}", tuple(InputKey() for _ in range(self._inputs)))

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        """See `Operation`."""
        trees = [inputs[number] if number >= 0 else EMPTY for number in self._numbers]
        base = trees[0]
        for tree in trees[1:]:
            layers = await self._tools.layering.layers(tree, task.lease)
            base = await self._tools.stack(base, layers, task)
        return [base]


class DiffOperation:
    """One `DiffOp`. Deletions are not files: they are in the layers that the result is known by, and count when it is merged."""

    def __init__(self, vertex: Vertex, tools: LayerTools) -> None:
        diff = vertex.op.diff
        self._lower = diff.lower.input if diff.HasField("lower") else -1
        self._upper = diff.upper.input if diff.HasField("upper") else -1
        self._inputs = len(vertex.inputs)
        self._tools = tools
        _check(self._inputs, self._lower, self._upper)

    async def identify(self) -> Identity:
        """See `Operation`."""
        text = f"diff {self._lower} {self._upper}"
        return Identity(text, tuple(InputKey() for _ in range(self._inputs)))

    async def execute(self, task: Task, inputs: Sequence[Tree]) -> list[Tree]:
        """See `Operation`."""
        lower, upper = (inputs[each] if each >= 0 else EMPTY for each in (self._lower, self._upper))
        if lower == upper or upper == EMPTY:
            return [EMPTY]
        if lower == EMPTY:
            return [upper]
        if lower.directory or upper.directory:
            raise NotSupported("the difference of a client's directory")
        tools = self._tools
        if lower.snapshot in await tools.trees.snapshots.chain(upper.snapshot):
            below = await tools.layering.layers(lower, task.lease)
            layers = (await tools.layering.layers(upper, task.lease))[len(below) :]
        else:
            layers = [await self._compared(lower, upper, task)]
        tree = await tools.stack(EMPTY, layers, task)
        if tree.snapshot:
            await tools.table.store(tree.snapshot, layers)
        return [tree]

    async def _compared(self, lower: Tree, upper: Tree, task: Task) -> Layer:
        """File by file, as one layer."""
        tools = self._tools
        ingest = await tools.content.ingest(f"diff-{task.lease.id}", lease=task.lease)
        assert ingest is not None  # the digest is not known, so nothing can be there already
        arguments = {"lower": await tools.trees.source(lower), "upper": await tools.trees.source(upper)}
        async with ingest:
            try:
                result = await tools.trees.run(
                    "sampan.ops.merge_jobs:compare_job", arguments, (ingest.fileno(),)
                )
                info = await ingest.commit(digest=Digest(result["digest"]), verified=True)
            except BaseException:
                await ingest.abort()
                raise
        return Layer(info.digest, OCI_LAYER, info.size, str(result["diff_id"]))


def _check(inputs: int, *numbers: int) -> None:
    for number in numbers:
        if not -1 <= number < inputs:
            raise InvalidParameter(f"invalid input index {number}, {inputs} provided")
