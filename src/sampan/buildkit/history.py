"""Builds that are and that were, as `Control.ListenBuildHistory` tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.attestations.captures import redacted
from sampan.buildkit.outcomes import Outcome, complete, told
from sampan.buildkit.protos import control_pb2 as pb
from sampan.errors import NotFound
from sampan.solver.progress import Event

if TYPE_CHECKING:
    from sampan.build.history import BlobRow, History


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
            FrontendAttrs=_without_passwords(request.FrontendAttrs),
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
            record.FrontendAttrs.update(_without_passwords(options))

    async def end(self, ref: str, events: Iterable[Event], outcome: Outcome) -> None:
        """It has ended; what it told is kept with its record."""
        record = self._running.get(ref)
        if record is None:
            return
        record.CompletedAt.CopyFrom(_now())
        try:
            blobs = complete(record, list(events), outcome)
            gone = await self._table.store(ref, record.SerializeToString(), blobs)
        finally:
            del self._running[ref]
        self._tell(pb.COMPLETE, record)
        for name in gone:
            self._tell(pb.DELETED, pb.BuildHistoryRecord(Ref=name))

    async def told(self, ref: str) -> pb.StatusResponse | None:
        """What an ended build told; None for one that is not recorded."""
        row = await self._table.find(ref)
        if row is None:
            return None
        logs = pb.BuildHistoryRecord.FromString(row.record).logs
        return told(await self._table.blob(logs.digest) or b"")

    async def provenance(self, ref: str) -> dict[str, bytes]:
        """How an ended build's results were made, in SLSA's v1 as JSON, by platform ("" where there is only one)."""
        row = await self._table.find(ref)
        if row is None:
            return {}
        record = pb.BuildHistoryRecord.FromString(row.record)
        results = {"": record.Result, **record.Results}
        found = {}
        for platform, result in results.items():
            for each in result.Attestations:
                data = await self._table.blob(each.digest)
                if data is not None:
                    found[platform] = data
        return found

    async def blob(self, digest: str) -> bytes | None:
        """What a record keeps under that digest."""
        return await self._table.blob(digest)

    async def blob_row(self, digest: str) -> BlobRow | None:
        """What is known of it."""
        return await self._table.blob_row(digest)

    async def blobs(self) -> list[BlobRow]:
        """What is known of all."""
        return await self._table.blob_rows()

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


def _without_passwords(options: Mapping[str, str]) -> dict[str, str]:
    """Contexts may be URLs that hold some."""
    return {
        name: redacted(value) if "context" in name or name == "vcs:source" else value
        for name, value in options.items()
    }


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
