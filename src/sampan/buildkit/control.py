"""Control: what a client of the builder asks first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sampan.buildkit import workers
from sampan.buildkit.protos import control_pb2 as pb
from sampan.buildkit.session import ClientSession
from sampan.errors import NotFound, NotSupported
from sampan.grpc.server import Caller
from sampan.grpc.tunnel import TunnelTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from grpclib.server import Stream

    from sampan.buildkit.waiting import SessionDirectory
    from sampan.engine.engine import Engine


class Control:
    """The service for one engine."""

    def __init__(self, engine: Engine, sessions: SessionDirectory) -> None:
        self._engine = engine
        self._sessions = sessions

    async def info(self, request: pb.InfoRequest, caller: Caller) -> pb.InfoResponse:
        """Which BuildKit is spoken."""
        return pb.InfoResponse(buildkitVersion=workers.version())

    async def list_workers(self, request: pb.ListWorkersRequest, caller: Caller) -> pb.ListWorkersResponse:
        """The one worker, whatever the filter: there is nothing to choose from."""
        return pb.ListWorkersResponse(record=[await workers.worker(self._engine)])

    async def session(self, stream: Stream[Any, Any]) -> None:
        """A session whose bytes travel in the messages of this call."""
        headers: dict[str, list[str]] = {}
        for name, value in (stream.metadata or {}).items():
            if isinstance(value, str):
                headers.setdefault(name.lower(), []).append(value)
        announced = self._sessions.announced(headers)
        tunnel = TunnelTransport(stream, lambda data: pb.BytesMessage(data=data))
        session = ClientSession(announced, tunnel)
        async with self._sessions.listed(session):
            await tunnel.run(session.protocol)

    async def disk_usage(self, request: pb.DiskUsageRequest, caller: Caller) -> pb.DiskUsageResponse:
        """What is kept for later builds."""
        return pb.DiskUsageResponse()

    async def prune(self, request: pb.PruneRequest, caller: Caller) -> AsyncGenerator[pb.UsageRecord, None]:
        """Remove what is kept for later builds; none of it is told, for none has a size of its own yet."""
        await self._engine.builds.prune()
        records: list[pb.UsageRecord] = []
        for record in records:
            yield record

    async def solve(self, request: pb.SolveRequest, caller: Caller) -> pb.SolveResponse:
        """Build."""
        raise NotSupported("solving is not in this version of Sampan")

    async def status(
        self, request: pb.StatusRequest, caller: Caller
    ) -> AsyncGenerator[pb.StatusResponse, None]:
        """Follow a build."""
        raise NotFound(f"no such build: {request.Ref}")
        yield pb.StatusResponse()

    async def listen_build_history(
        self, request: pb.BuildHistoryRequest, caller: Caller
    ) -> AsyncGenerator[pb.BuildHistoryEvent, None]:
        """Builds that were, and those that come: none is kept yet."""
        events: list[pb.BuildHistoryEvent] = []
        for event in events:
            yield event

    async def update_build_history(
        self, request: pb.UpdateBuildHistoryRequest, caller: Caller
    ) -> pb.UpdateBuildHistoryResponse:
        """Pin or forget a build that was."""
        raise NotFound(f"no such build: {request.Ref}")
