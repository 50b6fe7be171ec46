"""Our proto file is BuildKit's on the wire: field numbers and types, from the public definition as data."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.descriptor import FieldDescriptor

from sampan.llb import ops_pb2

_FIELDS = Path(__file__).parents[2] / "data" / "llb-fields.txt"
_RENAMED = {
    ("Definition", "def"): "ops",
    ("Definition", "Source"): "source",
    ("Mount", "TmpfsOpt"): "tmpfsOpt",
    ("Mount", "SSHOpt"): "sshOpt",
}
_SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


def _type(field: FieldDescriptor) -> str:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return f"map<{_type(message.fields[0])},{_type(message.fields[1])}>"
    name = (
        message.name
        if message is not None
        else field.enum_type.name
        if field.enum_type is not None
        else _SCALARS[field.type]
    )
    return f"repeated_{name}" if field.is_repeated else name


def _described() -> set[tuple[str, str, int, str]]:
    found = set()
    for message in ops_pb2.DESCRIPTOR.message_types_by_name.values():
        found |= {(message.name, each.name, each.number, _type(each)) for each in message.fields}
    for enum in ops_pb2.DESCRIPTOR.enum_types_by_name.values():
        found |= {(enum.name, each.name, each.number, "enum") for each in enum.values}
    return found


def test_every_field_has_its_number_and_type() -> None:
    wanted = set()
    for line in _FIELDS.read_text().splitlines():
        if not line.startswith("#"):
            message, name, number, kind = line.split(" ")
            wanted.add((message, _RENAMED.get((message, name), name), int(number), kind))
    assert _described() == wanted
