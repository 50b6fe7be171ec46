"""A build's course as a trace: one span for the build, one for each of its steps. `buildx history trace` shows it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import msgspec

from sampan.buildkit.protos import control_pb2 as pb
from sampan.names.times import format_rfc3339_nano
from sampan.solver.progress import Event, VertexEvent

_INTERNAL = 1
"""Kind of a span that is nobody's request."""
_ERROR = 1
_NONE = {"TraceID": "0" * 32, "SpanID": "0" * 16, "TraceFlags": "00", "TraceState": "", "Remote": False}


def trace(record: pb.BuildHistoryRecord, events: Iterable[Event]) -> bytes:
    """Spans as JSON, as BuildKit keeps them. Steps that were never begun have none; one that never ended ends with the build."""
    id = secrets.token_hex(16)
    whole = _context(id)
    ended_ns = record.CompletedAt.ToNanoseconds()
    spans = [
        _span(
            f"build {record.Ref}",
            whole,
            _NONE,
            record.CreatedAt.ToNanoseconds(),
            ended_ns,
            {"ref": record.Ref},
        )
    ]
    for step in _steps(events):
        about = {"vertex": step.digest, "cached": "true" if step.cached else "false"}
        ended = step.completed or ended_ns
        spans.append(_span(step.name, _context(id), whole, step.started, ended, about, step.error))
    return b"".join(msgspec.json.format(msgspec.json.encode(span), indent=2) + b"\n" for span in spans)


def _steps(events: Iterable[Event]) -> list[VertexEvent]:
    steps = {event.digest: event for event in events if isinstance(event, VertexEvent)}
    return sorted((each for each in steps.values() if each.started), key=lambda each: each.started)


def _context(trace: str) -> dict[str, Any]:
    return {**_NONE, "TraceID": trace, "SpanID": secrets.token_hex(8), "TraceFlags": "01"}


def _span(
    name: str,
    context: dict[str, Any],
    parent: dict[str, Any],
    started_ns: int,
    ended_ns: int,
    about: dict[str, str],
    error: str = "",
) -> dict[str, Any]:
    return {
        "Name": name,
        "SpanContext": context,
        "Parent": parent,
        "SpanKind": _INTERNAL,
        "StartTime": format_rfc3339_nano(started_ns),
        "EndTime": format_rfc3339_nano(ended_ns),
        "Attributes": _pairs(about),
        "Events": None,
        "Links": None,
        "Status": {"Code": _ERROR if error else 0, "Description": error},
        "DroppedAttributes": 0,
        "DroppedEvents": 0,
        "DroppedLinks": 0,
        "ChildSpanCount": 0,
        "Resource": _pairs({"service.name": "sampan"}),
        "InstrumentationLibrary": {"Name": "sampan", "Version": "", "SchemaURL": "", "Attributes": None},
    }


def _pairs(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"Key": key, "Value": {"Type": "STRING", "Value": value}} for key, value in values.items()]
