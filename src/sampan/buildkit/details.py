"""Failed builds as gRPC errors: which vertex, and the lines of which text, in the form that BuildKit's clients print an excerpt of.

A detail is a `google.protobuf.Any` whose value is JSON, as Go's encoder writes BuildKit's structs (`errdefs.…+json`).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToDict
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from sampan.buildkit.protos import errdefs_pb2
from sampan.dockerfile.source import DockerfileError
from sampan.errors import SampanError
from sampan.frontend.subrequests import UnknownRequest
from sampan.grpc.errors import from_grpc
from sampan.solver.failures import VertexFailed

if TYPE_CHECKING:
    from sampan.buildkit.bridge import Bridge

_PREFIX = "github.com/moby/buildkit/errdefs."


def as_grpc(error: Exception, bridge: Bridge | None = None) -> Exception:
    """The error with its details; any other as it is. To a frontend (`bridge`) also what it takes to look at a step that failed."""
    match error:
        case VertexFailed():
            details = [_detail("Vertex", {"digest": error.vertex.digest})]
            if bridge is not None:
                details.append(_solve(error, bridge))
            place = error.place()
            if place is not None:
                info, first, last = place
                details.append(_source(info.filename, info.data, info.language, [(first, last)]))
            return GRPCError(Status.UNKNOWN, str(error), details)
        case DockerfileError():
            details = []
            if error.source is not None and error.place is not None:
                text = "\n".join(error.source.lines).encode()
                details.append(_source(error.source.name, text, "Dockerfile", [error.place]))
            return GRPCError(Status.UNKNOWN, str(error), details or None)
        case UnknownRequest():
            return GRPCError(Status.UNKNOWN, str(error), [_detail("Subrequest", {"name": error.name})])
    return error


def cause_of(error: Exception) -> Exception:
    """What a solve failed with, before it became gRPC's (`as_grpc`); what another frontend said, as an error of ours."""
    if not isinstance(error, GRPCError):
        return error
    cause = error.__cause__
    return cause if isinstance(cause, SampanError) else from_grpc(error)


def _solve(error: VertexFailed, bridge: Bridge) -> AnyMessage:
    """Which operation failed, on what, and what it left behind: a frontend can make a container of either."""
    about = errdefs_pb2.Solve(
        inputIDs=[bridge.register_tree(each) for each in error.began],
        mountIDs=[bridge.register_tree(each) for each in error.left],
        description=error.vertex.metadata.description,
    )
    if error.vertex.kind != "build":  # its definition has a field that JSON would name as Python does
        about.op.CopyFrom(error.vertex.op)
    told = MessageToDict(about)
    for mount in told.get("op", {}).get("exec", {}).get("mounts", ()):
        for ours, theirs in (("tmpfsOpt", "TmpfsOpt"), ("sshOpt", "SSHOpt")):
            if ours in mount:
                mount[theirs] = mount.pop(ours)
    return _detail("Solve", told)


def _source(name: str, data: bytes, language: str, places: Sequence[tuple[int, int]]) -> AnyMessage:
    ranges = [{"start": {"line": first}, "end": {"line": last}} for first, last in places]
    info = {"filename": name, "data": b64encode(data).decode(), "language": language}
    return _detail("Source", {"info": info, "ranges": ranges})


def _detail(name: str, value: Any) -> AnyMessage:
    return AnyMessage(type_url=f"{_PREFIX}{name}+json", value=msgspec.json.encode(value))
