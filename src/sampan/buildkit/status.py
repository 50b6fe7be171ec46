"""A build's events as BuildKit's `StatusResponse`."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.buildkit.protos import control_pb2 as pb
from sampan.llb import ops_pb2 as ops
from sampan.solver.progress import ADVICE, Event, LogEvent, StatusEvent, VertexEvent, WarningEvent


def status_response(events: Iterable[Event]) -> pb.StatusResponse:
    """Some events as one message."""
    response = pb.StatusResponse()
    for event in events:
        match event:
            case VertexEvent():
                response.vertexes.append(_vertex(event))
            case StatusEvent():
                response.statuses.append(_status(event))
            case LogEvent():
                response.logs.append(
                    pb.VertexLog(
                        vertex=event.vertex, timestamp=_time(event.at), stream=event.stream, msg=event.data
                    )
                )
            case WarningEvent() if event.level != ADVICE:
                response.warnings.append(_warning(event))
    return response


def _vertex(event: VertexEvent) -> pb.Vertex:
    return pb.Vertex(
        digest=event.digest,
        inputs=event.inputs,
        name=event.name,
        cached=event.cached,
        started=_time(event.started),
        completed=_time(event.completed),
        error=event.error,
        progressGroup=event.group,
    )


def _status(event: StatusEvent) -> pb.VertexStatus:
    return pb.VertexStatus(
        ID=event.id,
        vertex=event.vertex,
        name=event.name,
        current=event.current,
        total=event.total,
        timestamp=_time(event.at),
        started=_time(event.started),
        completed=_time(event.completed),
    )


def _warning(event: WarningEvent) -> pb.VertexWarning:
    ranges = [
        ops.Range(start=ops.Position(line=first), end=ops.Position(line=last)) for first, last in event.places
    ]
    return pb.VertexWarning(
        vertex=event.vertex,
        level=event.level,
        short=event.short.encode(),
        detail=[each.encode() for each in event.detail],
        url=event.url,
        info=event.text,
        ranges=ranges,
    )


def _time(nanoseconds: int) -> Timestamp | None:
    if not nanoseconds:
        return None
    return Timestamp(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)
