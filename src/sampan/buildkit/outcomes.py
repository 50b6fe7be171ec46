"""How a build ended, as its record keeps it: what it told, why it failed, how its results were made, its images' documents."""

from __future__ import annotations

import struct
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from grpclib.exceptions import GRPCError

from sampan.attestations.asking import ProvenanceWish
from sampan.attestations.statements import ANNOTATION_PREDICATE
from sampan.buildkit.protos import control_pb2 as pb
from sampan.buildkit.status import status_response
from sampan.buildkit.traces import trace
from sampan.errors import InvalidParameter, NotFound
from sampan.grpc import status_pb2
from sampan.grpc.errors import status_message
from sampan.names.digest import digest_of
from sampan.oci.image import IN_TOTO, INDEX_TYPES, MANIFEST_TYPES, Descriptor, parse_index, parse_manifest
from sampan.solver.progress import ADVICE, Event, VertexEvent, WarningEvent

if TYPE_CHECKING:
    from sampan.buildkit.jobs import Job, Result
    from sampan.content.interface import ContentStore

_LOGS = "application/vnd.buildkit.status.v0"
_ERROR = "application/vnd.googleapis.google.rpc.status+proto"
_TRACE = "application/vnd.buildkit.otlp.json.v0"
_TOLD = 2 << 20
"""Bytes of a build's output that are kept with its record."""
_LONGEST = 4 << 20
"""Bytes of one document; a longer one is not kept."""
_LENGTH = struct.Struct("<I")
DESCRIPTOR = "containerimage.descriptor"
"""In an exporter's answer, in base64: what it has written."""


class Blob(NamedTuple):
    """A blob of a record, and what the record says of it."""

    media_type: str
    data: bytes
    annotations: Mapping[str, str] = {}

    def described(self) -> pb.Descriptor:
        """As the record has it."""
        return pb.Descriptor(
            media_type=self.media_type,
            digest=digest_of(self.data),
            size=len(self.data),
            annotations=self.annotations,
        )


@dataclass
class Outcome:
    """How a build has ended."""

    response: Mapping[str, str] = field(default_factory=dict)
    error: BaseException | None = None
    provenance: Mapping[str, Blob] = field(default_factory=dict)
    """By platform; "" where there is only one."""
    exported: Mapping[int, Descriptor] = field(default_factory=dict)
    """What exporters have written, by their number."""
    documents: list[bytes] = field(default_factory=list)
    """Of which that consists, without the layers."""


async def succeeded(
    job: Job, result: Result, answers: Iterable[Mapping[str, str]], content: ContentStore
) -> Outcome:
    """Of a build whose exporters gave these answers."""
    outcome = Outcome()
    for number, answer in enumerate(answers):
        outcome.response = {**outcome.response, **answer}
        if DESCRIPTOR in answer:
            outcome.exported = {**outcome.exported, number: _descriptor(answer[DESCRIPTOR])}
    outcome.provenance = await _provenance(job, result)
    for target in outcome.exported.values():
        outcome.documents += await _documents(content, target)
    return outcome


def _descriptor(text: str) -> Descriptor:
    return msgspec.json.decode(b64decode(text), type=Descriptor)


async def _provenance(job: Job, result: Result) -> dict[str, Blob]:
    """In full, whatever the build itself was to tell. A frontend's image cannot make a build fail by what it says of its result."""
    assert job.attesting is not None
    wish = ProvenanceWish(builder_id=job.attesting.builder_id)
    found = {}
    for id, ref in result.refs.items():
        if ref is None:
            continue
        try:
            statement = await job.attesting.provenance(result, id, wish)
        except InvalidParameter:
            continue
        data = msgspec.json.format(statement.predicate, indent=2)
        if len(data) <= _LONGEST:
            found[id] = Blob(IN_TOTO, data, {ANNOTATION_PREDICATE: statement.predicate_type})
    return found


async def _documents(content: ContentStore, target: Descriptor) -> list[bytes]:
    """An index, its manifests, their configurations and statements: what there is to be read when the image is gone."""
    found: dict[str, bytes] = {}
    wanted = [target]
    while wanted and len(found) < 256:
        each = wanted.pop()
        if each.digest in found or each.size > _LONGEST:
            continue
        try:
            data = found[each.digest] = await content.read(each.checked_digest, limit=_LONGEST)
        except NotFound:
            continue
        if each.media_type in INDEX_TYPES:
            wanted += parse_index(data).manifests
        elif each.media_type in MANIFEST_TYPES:
            manifest = parse_manifest(data)
            wanted += [manifest.config, *(x for x in manifest.layers if x.media_type == IN_TOTO)]
    return list(found.values())


def complete(record: pb.BuildHistoryRecord, events: list[Event], outcome: Outcome) -> list[bytes]:
    """Write down in the record how the build has ended; the blobs that it speaks of."""
    blobs = [*(each.data for each in outcome.provenance.values()), *outcome.documents]
    record.ExporterResponse.update(outcome.response)
    _count(record, events)
    for name, blob in (("logs", _logs(events)), ("trace", Blob(_TRACE, trace(record, events)))):
        getattr(record, name).CopyFrom(blob.described())
        blobs.append(blob.data)
    if outcome.error is not None:
        status = error_status(outcome.error)
        error = Blob(_ERROR, status.SerializeToString())
        blobs.append(error.data)
        record.externalError.CopyFrom(error.described())
        record.error.CopyFrom(status_pb2.Status(code=status.code, message=status.message))
    _set_results(record, outcome)
    return blobs


def _set_results(record: pb.BuildHistoryRecord, outcome: Outcome) -> None:
    for id, blob in outcome.provenance.items():
        info = record.Results[id] if id else record.Result
        info.Attestations.append(blob.described())
    for number, each in outcome.exported.items():
        described = pb.Descriptor(
            media_type=each.media_type, digest=each.digest, size=each.size, annotations=each.annotations
        )
        if not record.Result.Results:
            record.Result.ResultDeprecated.CopyFrom(described)
        record.Result.Results[number].CopyFrom(described)


def _count(record: pb.BuildHistoryRecord, events: Iterable[Event]) -> None:
    """As BuildKit counts: a step that failed is completed too."""
    steps: dict[str, VertexEvent] = {}
    for event in events:
        if isinstance(event, VertexEvent):
            steps[event.digest] = event
        elif isinstance(event, WarningEvent) and event.level != ADVICE:
            record.numWarnings += 1
    record.numTotalSteps = len(steps)
    record.numCachedSteps = sum(each.cached for each in steps.values())
    record.numCompletedSteps = sum(bool(each.completed) for each in steps.values())


def _logs(events: Iterable[Event]) -> Blob:
    """Messages, each behind its length."""
    data = bytearray()
    for event in events:
        message = status_response([event]).SerializeToString()
        data += _LENGTH.pack(len(message)) + message
        if len(data) > _TOLD:
            break
    return Blob(_LOGS, bytes(data))


def told(logs: bytes) -> pb.StatusResponse:
    """What a build told, of such a blob, as one message: several, one behind the other, are one."""
    joined = bytearray()
    offset = 0
    while offset < len(logs):
        (length,) = _LENGTH.unpack_from(logs, offset)
        offset += _LENGTH.size
        joined += logs[offset : offset + length]
        offset += length
    return pb.StatusResponse.FromString(bytes(joined))


def error_status(error: BaseException) -> status_pb2.Status:
    """An error as gRPC tells it."""
    if isinstance(error, GRPCError):
        return status_pb2.Status(
            code=error.status.value, message=error.message or "", details=error.details or ()
        )
    return status_message(error)
