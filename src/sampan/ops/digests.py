"""Content digests, as the solver asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sampan.errors import NotFound
from sampan.ops.trees import Trees
from sampan.solver.interface import Selector, Tree

_EVERYTHING = Selector("/")


class _Asked:
    """What is asked of one tree, until a worker looks at it."""

    def __init__(self, task: asyncio.Task[list[dict[str, str]]]) -> None:
        self.task = task
        self.requests: list[list[dict[str, object]]] = []


class TreeDigester:
    """`solver.interface.Digester`, in workers: what is asked of one tree at the same time is one job."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees
        self._asked: dict[Tree, _Asked] = {}

    async def digest(self, tree: Tree, selectors: Sequence[Selector]) -> str:
        """See `solver.interface.Digester`."""
        asked = self._asked.get(tree)
        if asked is None:
            asked = self._asked[tree] = _Asked(asyncio.create_task(self._look(tree)))
        number = len(asked.requests)
        asked.requests.append([_described(each) for each in sorted(selectors) or [_EVERYTHING]])
        # Not cancelled with one of those who ask: the others wait for the same job.
        answer = (await asyncio.shield(asked.task))[number]
        if "missing" in answer:
            raise NotFound(
                f"failed to compute cache key: failed to calculate checksum of ref: {answer['missing']}"
            )
        return answer["digest"]

    async def _look(self, tree: Tree) -> list[dict[str, str]]:
        await asyncio.sleep(0)  # who else was woken by the same tree asks now
        source = await self._trees.source(tree)
        requests = self._asked.pop(tree).requests
        answers: list[dict[str, str]] = await self._trees.run(
            "sampan.ops.digest_jobs:digest_job", {"source": source, "requests": requests}
        )
        return answers


def _described(selector: Selector) -> dict[str, object]:
    return {
        "src": selector.path,
        "wildcard": selector.wildcard,
        "follow": selector.follow,
        "include": list(selector.include),
        "exclude": list(selector.exclude),
    }
