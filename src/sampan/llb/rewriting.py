"""Other sources in a graph: operations that stand on a changed one have other digests, and all that names them follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from google.protobuf.message import DecodeError

from sampan.errors import InvalidParameter
from sampan.llb import ops_pb2 as pb
from sampan.llb.graph import digest_of, inputs_first


def sources_of(definition: pb.Definition) -> dict[str, pb.SourceOp]:
    """The sources of a definition by the digest of their operation. Raises `InvalidParameter`."""
    parsed = {digest_of(data): _parsed(data) for data in definition.ops}
    return {digest: op.source for digest, op in parsed.items() if op.WhichOneof("op") == "source"}


def with_sources(definition: pb.Definition, sources: Mapping[str, pb.SourceOp]) -> pb.Definition:
    """The definition with other sources, by the digest of the operations that have them now; itself when nothing changes.

    Raises `InvalidParameter` for a definition that is none.
    """
    if not definition.ops:
        return definition
    parsed = {digest_of(data): _parsed(data) for data in definition.ops}
    renamed: dict[str, str] = {}
    made = pb.Definition()
    last = _Named(digest_of(definition.ops[-1]))
    for each in inputs_first(
        last, lambda each: [_Named(input.digest) for input in _found(parsed, each.digest).inputs]
    ):
        op = parsed[each.digest]
        if each.digest in sources:
            op.source.CopyFrom(sources[each.digest])
        for input in op.inputs:
            input.digest = renamed[input.digest]
        data = op.SerializeToString(deterministic=True)
        renamed[each.digest] = digest_of(data)
        made.ops.append(data)
    if all(old == new for old, new in renamed.items()):
        return definition
    for digest, metadata in definition.metadata.items():
        made.metadata[renamed.get(digest, digest)].CopyFrom(metadata)
    made.source.infos.extend(definition.source.infos)
    for digest, locations in definition.source.locations.items():
        made.source.locations[renamed.get(digest, digest)].CopyFrom(locations)
    return made


class _Named(NamedTuple):
    digest: str


def _found(parsed: Mapping[str, pb.Op], digest: str) -> pb.Op:
    op = parsed.get(digest)
    if op is None:
        raise InvalidParameter(f"invalid missing input digest {digest}")
    return op


def _parsed(data: bytes) -> pb.Op:
    try:
        return pb.Op.FromString(data)
    except DecodeError as error:
        raise InvalidParameter(f"failed to parse llb proto op: {error}") from None
