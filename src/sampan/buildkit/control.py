"""Control: what a client of the builder asks first."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from sampan.attestations.asking import wishes
from sampan.attestations.predicates import Asked
from sampan.buildkit import caching, details, exporting, frontends, scanning, usage, workers
from sampan.buildkit.attesting import Attesting
from sampan.buildkit.outcomes import Outcome, succeeded
from sampan.buildkit.protos import control_pb2 as pb
from sampan.buildkit.session import ClientSession
from sampan.buildkit.status import status_response
from sampan.errors import Cancelled, NotSupported
from sampan.grpc.server import Caller
from sampan.grpc.tunnel import TunnelTransport
from sampan.names.times import format_rfc3339_nano

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from grpclib.server import Stream

    from sampan.buildkit.history import BuildHistory
    from sampan.buildkit.jobs import Job, Jobs, Result
    from sampan.buildkit.waiting import SessionDirectory
    from sampan.engine.engine import Engine
    from sampan.engineapi.container import HostConfig

_EVENTS = 512
"""In one message: output comes in lines, and a message has its limit (16 MiB)."""


class Control:
    """The service for one engine."""

    def __init__(self, engine: Engine, sessions: SessionDirectory, jobs: Jobs, history: BuildHistory) -> None:
        self._engine = engine
        self._sessions = sessions
        self._jobs = jobs
        self._history = history

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
        kept = await self._engine.builds.graphs.upkeep.usage(usage.filters(list(request.filter)))
        return pb.DiskUsageResponse(record=[usage.record(each) for each in kept])

    async def prune(self, request: pb.PruneRequest, caller: Caller) -> AsyncGenerator[pb.UsageRecord, None]:
        """Remove what is kept for later builds, and tell what was."""
        for kept in await self._engine.builds.graphs.upkeep.prune(usage.prune_request(request)):
            yield usage.record(kept)

    async def solve(
        self, request: pb.SolveRequest, caller: Caller, limits: Callable[[], HostConfig] | None = None
    ) -> pb.SolveResponse:
        """Build, and export what comes out. The result is the request's definition, a frontend's of ours, or what a frontend on
        the client's side gives (`LLBBridge.Return`). `limits` gives a copy of those of the build's programs."""
        try:
            _check_supported(request)
            wanted = wishes(request.FrontendAttrs)
            scanning.check(wanted.sbom, request.FrontendAttrs)
            cache_exports = caching.exports(request)
            exporters = [
                (exporting.exporter(each.Type, each.Attrs), dict(each.Attrs)) for each in _exporters(request)
            ]
            session = await self._sessions.find(request.Session) if request.Session else None
        except BaseException:
            await self._jobs.refuse(request.Ref)
            raise
        solving = self._engine.builds.graphs.solving
        outcome = Outcome()
        async with self._jobs.running(
            request.Ref,
            solving,
            session,
            request.FrontendInputs,
            request.Entitlements,
            [request.SourcePolicy],
        ) as job:
            self._history.begin(request)
            if limits is not None:
                job.build.settings["host_config"] = limits
            asked = Asked(request.Frontend, dict(request.FrontendAttrs))
            job.attesting = Attesting(job, wanted, asked, request.CompatibilityVersion)
            caching.add_imports(
                self._engine, job, [(each.Type, each.Attrs) for each in request.Cache.Imports]
            )
            try:
                result = await self._result(job, request)
                answers = []
                if "requestid" in request.FrontendAttrs:
                    # No image comes of it.
                    answers.append({name: value.decode() for name, value in result.metadata.items()})
                    exporters, cache_exports = [], []
                else:
                    await job.attesting.scan(result)
                if not exporters:
                    await result.make()
                if any(each.kind == "inline" for each in cache_exports):
                    result = await caching.with_inline(job, result)
                answers += [
                    await export(self._engine, job, result, attributes, number)
                    for number, (export, attributes) in enumerate(exporters)
                ]
                answers += [
                    await caching.export(self._engine, job, result, cache_export)
                    for cache_export in cache_exports
                ]
                outcome = await succeeded(job, result, answers, self._engine.images.parts.content)
            except asyncio.CancelledError:
                outcome.error = Cancelled("context canceled")
                raise
            except Exception as error:
                outcome.error = details.as_grpc(error)
                raise outcome.error from error
            finally:
                await asyncio.shield(self._history.end(request.Ref, job.build.progress.events, outcome))
        return pb.SolveResponse(ExporterResponse=outcome.response)

    async def _result(self, job: Job, request: pb.SolveRequest) -> Result:
        if request.Frontend:
            options = dict(request.FrontendAttrs)
            return await frontends.run(job, request.Frontend, options, request.FrontendInputs)
        if request.HasField("Definition"):
            return await job.result_of(request.Definition)
        return await job.bridge.returned

    async def status(
        self, request: pb.StatusRequest, caller: Caller
    ) -> AsyncGenerator[pb.StatusResponse, None]:
        """Follow a build from its beginning to its end."""
        if not self._jobs.knows(request.Ref):
            told = await self._history.told(request.Ref)
            if told is not None:
                yield told
                return
        progress = await self._jobs.progress(request.Ref)
        async for events in progress.follow():
            for start in range(0, len(events), _EVENTS):
                yield status_response(events[start : start + _EVENTS])

    async def listen_build_history(
        self, request: pb.BuildHistoryRequest, caller: Caller
    ) -> AsyncGenerator[pb.BuildHistoryEvent, None]:
        """Builds that were, and those that come; with the time here, by which clients know how long a build has run."""
        caller.leading["buildkit-current-timestamp"] = format_rfc3339_nano(time.time_ns())
        async with aclosing(self._history.listen(request)) as events:
            async for event in events:
                yield event

    async def update_build_history(
        self, request: pb.UpdateBuildHistoryRequest, caller: Caller
    ) -> pb.UpdateBuildHistoryResponse:
        """Pin or forget a build that was."""
        await self._history.update(request)
        return pb.UpdateBuildHistoryResponse()


def _exporters(request: pb.SolveRequest) -> list[pb.Exporter]:
    """Those of old clients too, which name one."""
    if request.Exporters or not request.ExporterDeprecated:
        return list(request.Exporters)
    return [pb.Exporter(Type=request.ExporterDeprecated, Attrs=request.ExporterAttrsDeprecated)]


def _check_supported(request: pb.SolveRequest) -> None:
    """Raises `NotSupported` for what a build would silently lack."""
    if request.SourcePolicySession:
        raise NotSupported("source policies of a session are not in this version of Sampan's builder")
    if request.EnableSessionExporter:
        raise NotSupported("exporters of a session are not in this version of Sampan's builder")
    if request.ProxyNetwork:
        raise NotSupported("networks through a proxy are not in this version of Sampan's builder")
