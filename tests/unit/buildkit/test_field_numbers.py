"""Our `.proto` files against what BuildKit's own Go packages have registered: every service, message, field and enum.

`tests/data/buildkit/numbers.json` holds what a Go program printed that imports them (moby/buildkit v0.34.2, containerd's content
service, fsutil) and asks `protoregistry.GlobalFiles`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from sampan.buildkit.protos import (
    apicaps_pb2,
    auth_pb2,
    content_pb2,
    control_pb2,
    errdefs_pb2,
    exporter_pb2,
    filesync_pb2,
    fsutil_pb2,
    gateway_pb2,
    secrets_pb2,
    sourcepolicy_pb2,
    ssh_pb2,
    trace_pb2,
    upload_pb2,
    worker_pb2,
)
from sampan.grpc import health_pb2, status_pb2

NUMBERS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "buildkit" / "numbers.json").read_bytes()
)
FILES: list[Any] = [
    module.DESCRIPTOR
    for module in (
        apicaps_pb2,
        auth_pb2,
        content_pb2,
        control_pb2,
        errdefs_pb2,
        exporter_pb2,
        filesync_pb2,
        fsutil_pb2,
        gateway_pb2,
        health_pb2,
        secrets_pb2,
        sourcepolicy_pb2,
        ssh_pb2,
        status_pb2,
        trace_pb2,
        upload_pb2,
        worker_pb2,
    )
]
TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


def messages(of: Any) -> dict[str, Any]:
    found = {}
    for message in of:
        if not message.GetOptions().map_entry:
            found[message.full_name] = message
            found.update(messages(message.nested_types))
    return found


MESSAGES = messages(each for file in FILES for each in file.message_types_by_name.values())
ENUMS = {
    each.full_name: each
    for each in [
        *(enum for file in FILES for enum in file.enum_types_by_name.values()),
        *(enum for message in MESSAGES.values() for enum in message.enum_types),
    ]
}
SERVICES = {each.full_name: each for file in FILES for each in file.services_by_name.values()}


def type_of(field: Any) -> str:
    kind = field.message_type or field.enum_type
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"map {type_of(key)} {type_of(value)}"
    return ("repeated " if field.is_repeated else "") + (kind.full_name if kind else TYPES[field.type])


def test_every_message_is_there_and_no_other() -> None:
    ours = {name for name in MESSAGES if not name.startswith("opentelemetry.")}
    assert ours == set(NUMBERS["messages"])


@pytest.mark.parametrize("name", sorted(NUMBERS["messages"]))
def test_fields_have_the_numbers_and_types(name: str) -> None:
    fields = {field.name: [field.number, type_of(field)] for field in MESSAGES[name].fields}
    assert fields == NUMBERS["messages"][name]


def test_enums_have_the_numbers() -> None:
    ours = {name: {value.name: value.number for value in enum.values} for name, enum in ENUMS.items()}
    assert ours == NUMBERS["enums"]


def test_services_have_the_methods() -> None:
    def side(message: Any, streams: bool) -> str:
        return ("stream " if streams else "") + message.full_name

    ours = {
        name: {
            method.name: [
                side(method.input_type, method.client_streaming),
                side(method.output_type, method.server_streaming),
            ]
            for method in service.methods
        }
        for name, service in SERVICES.items()
    }
    assert ours == NUMBERS["services"]
