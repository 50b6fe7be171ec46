"""Content digests, as the solver asks for them."""

from __future__ import annotations

from collections.abc import Sequence

from sampan.errors import NotFound
from sampan.ops.trees import Trees
from sampan.solver.interface import Selector, Tree

_EVERYTHING = Selector("/")


class TreeDigester:
    """`solver.interface.Digester`, in workers."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees

    async def digest(self, tree: Tree, selectors: Sequence[Selector]) -> str:
        """See `solver.interface.Digester`."""
        arguments = {
            "source": await self._trees.source(tree),
            "selectors": [_described(each) for each in sorted(selectors) or [_EVERYTHING]],
        }
        try:
            result = await self._trees.run("sampan.ops.digest_jobs:digest_job", arguments)
        except NotFound as error:
            raise NotFound(
                f"failed to compute cache key: failed to calculate checksum of ref: {error}"
            ) from None
        return str(result["digest"])


def _described(selector: Selector) -> dict[str, object]:
    return {
        "src": selector.path,
        "wildcard": selector.wildcard,
        "follow": selector.follow,
        "include": list(selector.include),
        "exclude": list(selector.exclude),
    }
