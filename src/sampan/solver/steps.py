"""Steps of a build that are no operation of its graph, in its progress: metadata of an image, an export."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sampan.llb import ops_pb2
from sampan.llb.graph import NAME, Vertex, digest_of
from sampan.solver.progress import Reporter

if TYPE_CHECKING:
    from sampan.solver.build import Build


@asynccontextmanager
async def step(build: Build, name: str) -> AsyncIterator[Reporter]:
    """Show the block as a step, and give who tells of it; its failure is the step's."""
    digest = digest_of(secrets.token_bytes(16))
    reporter = Reporter(Vertex(digest, ops_pb2.Op(), (), ops_pb2.OpMetadata(description={NAME: name})))
    reporter.add(build.progress)
    reporter.start()
    try:
        yield reporter
    except BaseException as error:
        reporter.complete(str(error) or "context canceled")
        raise
    reporter.complete()
