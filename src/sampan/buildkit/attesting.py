"""What is said about a build's result: for each platform the provenance that was asked for.

Predicates are made when an exporter wants them: layers are known then.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sampan.attestations import predicates, steps
from sampan.attestations.asking import ProvenanceWish, Wishes
from sampan.attestations.captures import Capture, captured, of_platform
from sampan.attestations.predicates import Asked, Facts, GraphTold
from sampan.attestations.statements import Statement
from sampan.buildkit import results
from sampan.buildkit.scanning import Found, scanned
from sampan.buildkit.workers import DOCKERFILE
from sampan.llb.graph import Edge, Graph
from sampan.names import platform as platforms
from sampan.names.platform import Platform
from sampan.oci.image import Descriptor

if TYPE_CHECKING:
    from sampan.buildkit.jobs import Job, Ref, Result

_COMPATIBILITY = 30
"""BuildKit's number for how images are written now."""


class Attestation(NamedTuple):
    """One, about one platform's result."""

    name: str
    """Of the file that it is, where the result is files."""
    inline_only: bool
    """Not to be a file."""
    make: Callable[[], Awaitable[Statement]]


class Attesting:
    """For one solve."""

    def __init__(self, job: Job, wishes: Wishes, root: Asked, compatibility: int = 0) -> None:
        self._job = job
        self._wishes = wishes
        self._root = root
        self._compatibility = compatibility or _COMPATIBILITY
        self._finished_ns = 0
        self._scanned: dict[str, list[Found]] = {}

    async def scan(self, result: Result) -> None:
        """Have the result scanned, if that is asked for. Raises `VertexFailed`, `SampanError`."""
        if self._wishes.sbom is not None:
            self._scanned = await scanned(self._job, result, self._wishes.sbom, self._root.options)

    @property
    def builder_id(self) -> str:
        """Who built it, as the client says."""
        return self._wishes.provenance.builder_id if self._wishes.provenance else ""

    def of(self, result: Result, id: str) -> list[Attestation]:
        """Those of the platform that the result calls `id` (anything where it has one only)."""
        found = [
            Attestation(each.name, False, partial(_same, each.statement))
            for each in self._scanned.get(id, ())
        ]
        wish = self._wishes.provenance
        if wish is not None and result.find(id) is not None:
            made = partial(self.provenance, result, id, wish)
            found.append(Attestation(wish.filename, wish.inline_only, made))
        return found

    async def provenance(self, result: Result, id: str, wish: ProvenanceWish) -> Statement:
        """How a platform's result was made. Raises `InvalidParameter` where it is to be complete and cannot be."""
        ref = result.find(id)
        assert ref is not None
        known = results.listed(result)
        target = next((each.platform for each in known if each.id == id or len(known) == 1), None)
        capture = self._captured(result, ref, target, [each.platform for each in known])
        self._finished_ns = self._finished_ns or time.time_ns()
        frontend = ref.asked.frontend if ref.asked else ""
        facts = Facts(
            invocation=self._job.build.id,
            started_ns=self._job.started_ns,
            finished_ns=self._finished_ns,
            builder_platform=str(platforms.local()),
            target_platform=str(target) if target else "",
            frontend_version=DOCKERFILE if frontend == "dockerfile.v0" else "",
            compatibility=self._compatibility,
            asked=ref.asked,
            root=self._root if ref.asked and (self._root.frontend or self._root.options) else None,
        )
        graph = await self._graph(ref) if wish.full else None
        told = predicates.predicate(capture, facts, wish, graph)
        return Statement(predicates.predicate_type(wish.version), msgspec.json.encode(told))

    def _captured(self, result: Result, ref: Ref, target: Platform | None, known: list[Platform]) -> Capture:
        """Of the result's own graph, and of what a frontend looked at on its way."""
        notes = self._job.build.notes
        capture = captured(ref.graph, notes)
        others = [each for each in self._job.refs if each.is_made and each not in result.refs.values()]
        for other in others:
            capture.merge(captured(other.graph, notes))
        images = self._job.images
        if target is not None and len(known) > 1:
            images = of_platform(images, target, known)
        for image in images:
            capture.add_image(image)
        return capture

    async def _graph(self, ref: Ref) -> GraphTold:
        config, numbers = steps.build_config(ref.definition, ref.graph)
        metadata: dict[str, Any] = {}
        if source := steps.source_text(ref.definition.source, numbers):
            metadata["source"] = source
        if layers := await self._layers(ref.graph, numbers):
            metadata["layers"] = layers
        return GraphTold(config, metadata)

    async def _layers(self, graph: Graph, numbers: Mapping[str, int]) -> dict[str, Any]:
        """Of results that this build has had, and that were ever made an image's layers."""
        found: dict[str, Any] = {}
        for edge in _edges(graph):
            tree = self._job.build.known(edge)
            layers = await self._job.solving.layering.known(tree.snapshot) if tree and tree.snapshot else None
            if layers:
                descriptors = [
                    Descriptor(media_type=x.media_type, digest=x.digest, size=x.size) for x in layers
                ]
                found[f"step{numbers[edge.vertex.digest]}:{edge.index}"] = [msgspec.to_builtins(descriptors)]
        return found


async def _same(statement: Statement) -> Statement:
    return statement


def _edges(graph: Graph) -> list[Edge]:
    edges = {(edge.vertex.digest, edge.index): edge for vertex in graph.vertices() for edge in vertex.inputs}
    if graph.result is not None:
        edges[graph.result.vertex.digest, graph.result.index] = graph.result
    return list(edges.values())
