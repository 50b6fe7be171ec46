"""What builds keep, in Control's messages, and the filters that clients send with them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.build.upkeep import Kept, PruneRequest
from sampan.buildkit.protos import control_pb2 as pb
from sampan.engineapi.filters import Filters
from sampan.errors import InvalidParameter

_CONDITION = re.compile(r"([\w-]+)(?:(==|~=)(.*))?", re.DOTALL)


def record(kept: Kept) -> pb.UsageRecord:
    """One thing that is kept."""
    return pb.UsageRecord(
        ID=kept.id,
        Mutable=kept.mutable,
        InUse=kept.in_use,
        Size=kept.size,
        Parents=kept.parents,
        CreatedAt=_time(kept.created_ns),
        LastUsedAt=_time(kept.used_ns),
        UsageCount=kept.uses,
        Description=kept.description,
        RecordType=kept.kind,
        Shared=kept.shared,
    )


def prune_request(request: pb.PruneRequest) -> PruneRequest:
    """Which of it goes."""
    return PruneRequest(
        all=request.all,
        filters=filters(request.filter),
        reserved=request.reservedSpace,
        maximum=request.maxUsedSpace,
        free=request.minFreeSpace,
        unused_for_ns=request.keepDuration,
    )


def filters(given: Iterable[str]) -> Filters:
    """containerd's filters (`type==regular,id~=abc,shared`) as the engine's. Raises `InvalidParameter`."""
    values: dict[str, list[str]] = {}
    for condition in [part for text in given for part in text.split(",") if part]:
        found = _CONDITION.fullmatch(condition)
        if found is None:
            raise InvalidParameter(f"invalid filter {condition!r}")
        name, operator, value = found.groups()
        values.setdefault(name, []).append(
            "true" if operator is None else f"~{value}" if operator == "~=" else value
        )
    return Filters(values)


def _time(nanoseconds: int) -> Timestamp:
    return Timestamp(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)
