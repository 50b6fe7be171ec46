"""What builds keep, as BuildKit's clients see and filter it."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.build.upkeep import Kept, PruneRequest
from sampan.buildkit.protos import control_pb2 as pb
from sampan.engineapi.filters import Filters
from sampan.errors import InvalidParameter


def usage_record(kept: Kept) -> pb.UsageRecord:
    """As a message."""
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
    """What a client wants to be let go of. Raises `InvalidParameter` for a filter that is none."""
    return PruneRequest(
        all=request.all,
        filters=filters_of(request.filter),
        reserved=request.reservedSpace,
        maximum=request.maxUsedSpace,
        free=request.minFreeSpace,
        unused_for_ns=request.keepDuration,
    )


def filters_of(texts: Sequence[str]) -> Filters:
    """containerd's form: `type==regular,description~=RUN`; a field alone is a switch."""
    values: dict[str, list[str]] = {}
    for condition in (part for text in texts for part in text.split(",") if part):
        for operator, mark in (("~=", "~"), ("==", "")):
            name, found, value = condition.partition(operator)
            if found:
                values.setdefault(name.strip(), []).append(mark + value.strip().strip('"'))
                break
        else:
            if not condition.isalpha():
                raise InvalidParameter(f"invalid filter {condition!r}")
            values.setdefault(condition, []).append("true")
    return Filters(values)


def _time(nanoseconds: int) -> Timestamp:
    return Timestamp(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)
