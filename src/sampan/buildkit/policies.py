"""Source policies of a build's client, applied to graphs and to names that frontends ask about."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.json_format import MessageToDict

from sampan.errors import InvalidParameter
from sampan.llb import ops_pb2
from sampan.llb.rewriting import sources_of, with_sources
from sampan.names.reference import is_identifier, parse_normalized

if TYPE_CHECKING:
    from sampan.buildkit.protos.sourcepolicy_pb2 import Policy
    from sampan.ops.trees import Trees

IMAGE = "docker-image://"
_SECONDS = 10.0
"""For all rules on all sources of a graph; expressions can be made that take years."""


class Policies(NamedTuple):
    """Those that count for a request; of an empty one nothing is changed, and nothing done."""

    rules: tuple[Policy, ...] = ()

    def __bool__(self) -> bool:
        return any(policy.rules for policy in self.rules)

    def and_also(self, further: Sequence[Policy]) -> Policies:
        """With those of one request."""
        return Policies((*self.rules, *further))

    async def definition(self, definition: ops_pb2.Definition, trees: Trees) -> ops_pb2.Definition:
        """A graph whose sources are what the policies make of them.

        Raises `Forbidden` for a source that is denied, `InvalidParameter` for a policy that makes no sense.
        """
        sources = sources_of(definition) if self else {}
        if not sources:
            return definition
        became = await self._evaluated(list(sources.values()), trees)
        return with_sources(definition, dict(zip(sources, became, strict=True)))

    async def source(self, source: ops_pb2.SourceOp, trees: Trees) -> ops_pb2.SourceOp:
        """One source. Raises the same."""
        return (await self._evaluated([source], trees))[0] if self else source

    async def image(self, name: str, trees: Trees) -> str:
        """An image's name. Raises the same, and `InvalidParameter` for one that is to be something else than an image."""
        if not self or is_identifier(name):
            return name
        became = (await self.source(ops_pb2.SourceOp(identifier=IMAGE + name), trees)).identifier
        if not became.startswith(IMAGE):
            raise InvalidParameter(f"could not resolve image due to policy: {name} is to be {became}")
        return became.removeprefix(IMAGE)

    async def _evaluated(self, sources: Sequence[ops_pb2.SourceOp], trees: Trees) -> list[ops_pb2.SourceOp]:
        arguments = {
            "policies": [MessageToDict(policy) for policy in self.rules],
            "sources": [
                {"identifier": _normal(each.identifier), "attrs": dict(each.attrs)} for each in sources
            ],
        }
        try:
            async with asyncio.timeout(_SECONDS):
                answer = await trees.run("sampan.buildkit.policy_jobs:evaluate_job", arguments)
        except TimeoutError:
            raise InvalidParameter(f"source policy: not evaluated within {_SECONDS:.0f} seconds") from None
        return [
            ops_pb2.SourceOp(identifier=each["identifier"], attrs=each["attrs"]) for each in answer["sources"]
        ]


def _normal(identifier: str) -> str:
    """Images are compared by their full names."""
    name = identifier.removeprefix(IMAGE)
    if name == identifier or is_identifier(name):
        return identifier
    return f"{IMAGE}{parse_normalized(name).with_default_tag()}"
