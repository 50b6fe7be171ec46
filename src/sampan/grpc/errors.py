"""Errors across gRPC: Sampan's kinds as statuses and back, with details in `grpc-status-details-bin`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.exceptions import GRPCError

from sampan import errors
from sampan.grpc import status_pb2

_STATUS: list[tuple[type[errors.SampanError], Status]] = [
    (errors.InvalidParameter, Status.INVALID_ARGUMENT),
    (errors.Unauthorized, Status.UNAUTHENTICATED),
    (errors.Forbidden, Status.PERMISSION_DENIED),
    (errors.NotFound, Status.NOT_FOUND),
    (errors.Conflict, Status.FAILED_PRECONDITION),
    (errors.TooManyRequests, Status.RESOURCE_EXHAUSTED),
    (errors.NotSupported, Status.UNIMPLEMENTED),
    (errors.Unavailable, Status.UNAVAILABLE),
    (errors.Cancelled, Status.CANCELLED),
    (errors.DataLoss, Status.DATA_LOSS),
]
"""By kind, as containerd's `errdefs` maps its own."""


class DetailsCodec(StatusDetailsCodecBase):
    """Details are `google.protobuf.Any`s both ways: what is in them is the callers' business."""

    def encode(self, status: Status, message: str | None, details: Sequence[AnyMessage]) -> bytes:
        return status_pb2.Status(
            code=status.value, message=message or "", details=details
        ).SerializeToString()

    def decode(self, status: Status, message: str | None, data: bytes) -> Any:
        return list(status_pb2.Status.FromString(data).details)


def status_of(error: BaseException) -> Status:
    """The status that a client is told; `UNKNOWN` where gRPC has none of its own."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return Status.UNKNOWN


def as_grpc(
    error: BaseException, details: Sequence[AnyMessage] = (), status: Status | None = None
) -> GRPCError:
    """The error as the server tells it."""
    return GRPCError(status or status_of(error), str(error), list(details) or None)


def from_grpc(error: GRPCError) -> errors.SampanError:
    """What the other end answered, as an error of ours; its message is kept."""
    for kind, status in _STATUS:
        if status is error.status:
            return kind(error.message or error.status.name.lower())
    return errors.SystemFailure(error.message or error.status.name.lower())


def status_message(error: BaseException) -> status_pb2.Status:
    """The error inside a message of ours (a build's record, a process's end)."""
    return status_pb2.Status(code=status_of(error).value, message=str(error))
