"""A graph in provenance: its operations as steps, inputs first, with the text that they were made from.

Operations are told in the JSON that Go makes of BuildKit's messages, which is what readers of provenance know: fields by their
names, without those that are empty, choices below a key of their own, numbers and enumerations as numbers, bytes in base64.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from sampan.attestations.captures import redacted
from sampan.llb import ops_pb2 as pb
from sampan.llb.graph import Graph, Vertex, digest_of, load

_NAMES = {
    "Mount.tmpfsOpt": "TmpfsOpt",
    "Mount.sshOpt": "SSHOpt",
    "Definition.ops": "def",
    "Definition.source": "Source",
    "UserOpt.byID": "byId",
}
"""Where BuildKit's field has another name than ours."""
_ALWAYS = {"FileAction": ("input", "secondaryInput", "output")}
_CHOICES = {("Op", "op"): "Op", ("FileAction", "action"): "Action", ("UserOpt", "user"): "User"}
_PER_SESSION = ("local.session", "local.unique")
"""Attributes of sources that say nothing about the build."""

Steps = list[dict[str, Any]]


def build_config(definition: pb.Definition, graph: Graph) -> tuple[dict[str, Any], dict[str, int]]:
    """`buildConfig`, and the number of each vertex's step. `graph` is what the definition says."""
    steps, numbers = _steps(definition, graph)
    return _without_empty({"llbDefinition": steps, "digestMapping": _mapping(numbers)}), numbers


def source_text(source: pb.Source, numbers: Mapping[str, int]) -> dict[str, Any] | None:
    """`source`: the texts, and where in them each step stands."""
    if not source.infos:
        return None
    places = {
        f"step{numbers[digest]}": plain(locations)
        for digest, locations in source.locations.items()
        if digest in numbers
    }
    return _without_empty({"locations": places, "infos": [_info(each) for each in source.infos]})


def _info(info: pb.SourceInfo) -> dict[str, Any]:
    steps, numbers = _steps(info.definition, load(info.definition))
    return _without_empty(
        {
            "filename": info.filename,
            "language": info.language,
            "data": b64encode(info.data).decode(),
            "llbDefinition": steps,
            "digestMapping": _mapping(numbers),
        }
    )


def _steps(definition: pb.Definition, graph: Graph) -> tuple[Steps, dict[str, int]]:
    if graph.result is None:
        return [], {}
    vertices = list(graph.vertices())
    numbers = {vertex.digest: number for number, vertex in enumerate(vertices)}
    steps = [_step(number, vertex, numbers) for number, vertex in enumerate(vertices)]
    last = len(steps)
    numbers[digest_of(definition.ops[-1])] = last
    result = graph.result
    steps.append(
        {
            "id": f"step{last}",
            "op": {"Op": {}},
            "inputs": [f"step{numbers[result.vertex.digest]}:{result.index}"],
        }
    )
    return steps, numbers


def _step(number: int, vertex: Vertex, numbers: Mapping[str, int]) -> dict[str, Any]:
    op = pb.Op()
    op.CopyFrom(vertex.op)
    op.ClearField("inputs")
    if op.HasField("source"):
        op.source.identifier = redacted(op.source.identifier)
        for name, value in list(op.source.attrs.items()):
            if name in _PER_SESSION:
                del op.source.attrs[name]
            else:
                op.source.attrs[name] = redacted(value)
    inputs = [f"step{numbers[edge.vertex.digest]}:{edge.index}" for edge in vertex.inputs]
    return _without_empty({"id": f"step{number}", "op": plain(op), "inputs": inputs})


def plain(message: Message) -> dict[str, Any]:
    """A message of BuildKit's as Go's JSON has it."""
    kind = message.DESCRIPTOR.name
    told: dict[str, Any] = {name: getattr(message, name) for name in _ALWAYS.get(kind, ())}
    for choice in message.DESCRIPTOR.oneofs:
        told[_CHOICES[kind, choice.name]] = {}
    for descriptor, value in message.ListFields():
        name = _NAMES.get(f"{kind}.{descriptor.name}", descriptor.name)
        oneof = descriptor.containing_oneof
        if oneof is None:
            told[name] = _value(descriptor, value)
        elif value or isinstance(value, Message):
            told[_CHOICES[kind, oneof.name]] = {name: _value(descriptor, value)}
    return told


def _value(descriptor: FieldDescriptor, value: Any) -> Any:
    if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
        return {key: _single(each) for key, each in value.items()}
    if descriptor.is_repeated:
        return [_single(each) for each in value]
    return _single(value)


def _single(value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    return b64encode(value).decode() if isinstance(value, bytes) else value


def _mapping(numbers: Mapping[str, int]) -> dict[str, str]:
    return {digest: f"step{number}" for digest, number in numbers.items()}


def _without_empty(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in ({}, [], "", None)}
