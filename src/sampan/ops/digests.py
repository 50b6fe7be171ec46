"""Content digests, as the solver asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sampan.errors import NotFound
from sampan.ops.trees import Trees
from sampan.solver.interface import Selector, Tree

Selection = tuple[Selector, ...]

_EVERYTHING = Selector("/")
_DIRECTORIES, _SELECTIONS = 256, 256
"""How much is remembered: places of clients' files, and what was asked of each."""


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
        self._known: dict[str, tuple[int, dict[Selection, str]]] = {}
        """Of directories: of which version, what was asked of it, and the answers."""

    async def digest(self, tree: Tree, selectors: Sequence[Selector]) -> str:
        """See `solver.interface.Digester`. Of a directory that has not changed it is known."""
        selection = tuple(sorted(selectors)) or (_EVERYTHING,)
        version, known = self._known.get(tree.directory, (0, {}))
        if tree.version and tree.version == version and selection in known:
            return known[selection]
        digest = await self._computed(tree, selection)
        if tree.version:
            self._remember(tree, selection, digest)
        return digest

    def _remember(self, tree: Tree, selection: Selection, digest: str) -> None:
        version, known = self._known.pop(tree.directory, (0, {}))
        if version != tree.version or len(known) >= _SELECTIONS:
            known = {}
        known[selection] = digest
        self._known[tree.directory] = (tree.version, known)  # the last one now
        while len(self._known) > _DIRECTORIES:
            self._known.pop(next(iter(self._known)))

    async def _computed(self, tree: Tree, selection: Selection) -> str:
        asked = self._asked.get(tree)
        if asked is None:
            asked = self._asked[tree] = _Asked(asyncio.create_task(self._look(tree)))
        number = len(asked.requests)
        asked.requests.append([_described(each) for each in selection])
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
