"""Builds that are and that were, as `Control.ListenBuildHistory` tells of them."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from grpclib.exceptions import GRPCError

from sampan.buildkit.protos import control_pb2 as pb
from sampan.buildkit.status import status_response
from sampan.errors import NotFound
from sampan.grpc import status_pb2
from sampan.grpc.errors import status_message
from sampan.solver.progress import Event, VertexEvent, WarningEvent

if TYPE_CHECKING:
    from sampan.build.history import History

_TOLD = 2 << 20
"""Bytes of a build's output that are kept with its record."""


class BuildHistory:
    """Records of an engine's builds: running ones here, ended ones in the table."""

    def __init__(self, table: History) -> None:
        self._table = table
        self._running: dict[str, pb.BuildHistoryRecord] = {}
        self._listeners: set[asyncio.Queue[pb.BuildHistoryEvent]] = set()

    def begin(self, request: pb.SolveRequest) -> pb.BuildHistoryRecord:
        """A build starts. Internal ones (a client's own look-ups) are not recorded, but get a record to fill."""
        record = pb.BuildHistoryRecord(
            Ref=request.Ref,
            Frontend=request.Frontend,
            FrontendAttrs=request.FrontendAttrs,
            Exporters=request.Exporters,
            CreatedAt=_now(),
        )
        if not request.Internal:
            self._running[request.Ref] = record
            self._tell(pb.STARTED, record)
        return record

    def describe(self, ref: str, frontend: str, options: Mapping[str, str]) -> None:
        """What a frontend at the client asks for says what is built."""
        record = self._running.get(ref)
        if record is not None and not record.Frontend:
            record.Frontend = frontend
            record.FrontendAttrs.update(options)

    async def end(
        self,
        ref: str,
        events: Iterable[Event],
        response: Mapping[str, str],
        error: BaseException | None,
    ) -> None:
        """It has ended; what it told is kept with its record."""
        record = self._running.pop(ref, None)
        if record is None:
            return
        record.CompletedAt.CopyFrom(_now())
        record.ExporterResponse.update(response)
        events = list(events)
        _count(record, events)
        if error is not None:
            record.error.CopyFrom(_error(error))
        told = zlib.compress(_bounded(events), 1)
        gone = await self._table.store(ref, record.SerializeToString(), told)
        self._tell(pb.COMPLETE, record)
        for name in gone:
            self._tell(pb.DELETED, pb.BuildHistoryRecord(Ref=name))

    async def told(self, ref: str) -> pb.StatusResponse | None:
        """What an ended build told; None for one that is not recorded."""
        data = await self._table.told(ref)
        return None if data is None else pb.StatusResponse.FromString(zlib.decompress(data))

    async def listen(self, request: pb.BuildHistoryRequest) -> AsyncGenerator[pb.BuildHistoryEvent, None]:
        """Those that are asked for, and then (unless asked to stop there) whatever happens."""
        news: asyncio.Queue[pb.BuildHistoryEvent] = asyncio.Queue()
        self._listeners.add(news)
        try:
            for event in await self._present(request):
                yield event
            while not request.EarlyExit:
                event = await news.get()
                if request.Ref in ("", event.record.Ref):
                    yield event
        finally:
            self._listeners.discard(news)

    async def _present(self, request: pb.BuildHistoryRequest) -> list[pb.BuildHistoryEvent]:
        running = [pb.BuildHistoryEvent(type=pb.STARTED, record=each) for each in self._running.values()]
        ended = []
        if not request.ActiveOnly:
            for row in await self._table.every():
                record = pb.BuildHistoryRecord.FromString(row.record)
                record.pinned = row.pinned
                ended.append(pb.BuildHistoryEvent(type=pb.COMPLETE, record=record))
        found = [each for each in (*ended, *running) if request.Ref in ("", each.record.Ref)]
        return found[-request.Limit :] if request.Limit > 0 else found

    async def update(self, request: pb.UpdateBuildHistoryRequest) -> None:
        """Pin or forget. Raises `NotFound`."""
        if request.Delete:
            found = await self._table.forget(request.Ref)
            self._tell(pb.DELETED, pb.BuildHistoryRecord(Ref=request.Ref))
        elif request.Finalize:
            return  # everything is written when a build ends
        else:
            found = await self._table.pin(request.Ref, request.Pinned)
        if not found:
            raise NotFound(f"no such build: {request.Ref}")

    def _tell(self, kind: pb.BuildHistoryEventType, record: pb.BuildHistoryRecord) -> None:
        event = pb.BuildHistoryEvent(type=kind, record=record)
        for listener in self._listeners:
            listener.put_nowait(event)


def _count(record: pb.BuildHistoryRecord, events: Iterable[Event]) -> None:
    steps: dict[str, VertexEvent] = {}
    for event in events:
        if isinstance(event, VertexEvent):
            steps[event.digest] = event
        elif isinstance(event, WarningEvent):
            record.numWarnings += 1
    record.numTotalSteps = len(steps)
    record.numCachedSteps = sum(each.cached for each in steps.values())
    record.numCompletedSteps = sum(bool(each.completed) and not each.error for each in steps.values())


def _bounded(events: Iterable[Event]) -> bytes:
    """Serialized; messages one after the other are one message."""
    data = bytearray()
    for event in events:
        data += status_response([event]).SerializeToString()
        if len(data) > _TOLD:
            break
    return bytes(data)


def _error(error: BaseException) -> status_pb2.Status:
    if isinstance(error, GRPCError):
        return status_pb2.Status(
            code=error.status.value, message=error.message or "", details=error.details or ()
        )
    return status_message(error)


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
