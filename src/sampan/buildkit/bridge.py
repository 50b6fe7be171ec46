"""What one frontend has of a build: the references that it was given, its containers, and the result that it gives in the end.

A client's own frontend has one for the whole solve; a frontend image has one of its own, within the build that asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sampan.errors import Conflict, InvalidParameter, NotFound
from sampan.names.names import new_id
from sampan.solver.interface import EMPTY, Tree

if TYPE_CHECKING:
    from sampan.buildkit.containers import FrontendContainer
    from sampan.buildkit.jobs import Job, Ref, Result
    from sampan.llb import ops_pb2

MOST_CONTAINERS = 64
"""Of one frontend at a time."""


class Bridge:
    """See the module. Whoever made it closes it."""

    def __init__(self, job: Job, inputs: Mapping[str, ops_pb2.Definition]) -> None:
        self.job = job
        self.inputs = inputs
        """Definitions that the frontend is given."""
        self.returned: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        """What the frontend gives as the result."""
        self._refs: dict[str, Ref] = {}
        self._trees: dict[str, Tree] = {}
        self._containers: dict[str, FrontendContainer] = {}
        self._closed = False

    # -- references

    def register(self, ref: Ref | None) -> str:
        """An id by which the frontend names a file system; "" for the empty one."""
        if ref is None:
            return ""
        id = new_id()
        self._refs[id] = ref
        return id

    def register_tree(self, tree: Tree) -> str:
        """The same for what a step that failed had before and left behind; such an id is good for a container's mounts only."""
        if tree == EMPTY:
            return ""
        id = new_id()
        self._trees[id] = tree
        return id

    def named(self, id: str) -> Ref | None:
        """What the frontend means. Raises `NotFound`."""
        if not id:
            return None
        if id not in self._refs:
            raise NotFound(f"no such ref: {id}")
        return self._refs[id]

    async def tree(self, id: str) -> Tree:
        """The files of a reference, made now, or of a step that failed. Raises `NotFound`, `VertexFailed`."""
        if id in self._trees:
            return self._trees[id]
        ref = self.named(id)
        return await ref.tree() if ref is not None else EMPTY

    # -- the result

    def give(self, result: Result | Exception) -> None:
        """The result, or why there is none. Raises `InvalidParameter` at the second time."""
        if self.returned.done():
            raise InvalidParameter("gateway result is already set")
        if isinstance(result, Exception):
            self.returned.set_exception(result)
            self.returned.exception()  # seen, also when the solve has ended already
        else:
            self.returned.set_result(result)

    # -- containers

    def add(self, container: FrontendContainer) -> None:
        """From now on it is found by its id. Raises `Conflict`, `InvalidParameter` for one too many."""
        if self._closed:
            raise InvalidParameter("the build has ended")
        if container.id in self._containers:
            raise Conflict(f"Container {container.id} already exists")
        if len(self._containers) >= MOST_CONTAINERS:
            raise InvalidParameter(f"a frontend may have {MOST_CONTAINERS} containers at a time")
        self._containers[container.id] = container

    def container(self, id: str) -> FrontendContainer:
        """Raises `NotFound`."""
        found = self._containers.get(id)
        if found is None:
            raise NotFound(f"container details for {id} not found")
        return found

    async def release(self, id: str) -> None:
        """End a container. Raises `NotFound`."""
        found = self.container(id)
        del self._containers[id]
        await found.release()

    async def close(self) -> None:
        """End every container."""
        self._closed = True
        containers = list(self._containers.values())
        self._containers.clear()
        await asyncio.gather(*(each.release() for each in containers))
