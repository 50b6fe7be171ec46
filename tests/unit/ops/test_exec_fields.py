"""`ExecOp` field by field: each counts for what identifies a step, is refused, or is known to be left out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from sampan.errors import SampanError
from sampan.llb import ops_pb2 as pb
from sampan.llb.graph import Edge, Vertex, digest_of
from sampan.ops.run import RunOperation

LEFT_OUT = {
    "meta.proxy_env.http_proxy": "differs from place to place",
    "meta.proxy_env.https_proxy": "differs from place to place",
    "meta.proxy_env.ftp_proxy": "differs from place to place",
    "meta.proxy_env.no_proxy": "differs from place to place",
    "meta.proxy_env.all_proxy": "differs from place to place",
    "meta.extraHosts.IP": "differs from run to run",
    "mounts.cacheOpt.ID": "what a cache holds is no part of what a step is",
    "mounts.cacheOpt.sharing": "nor who else may use it",
    "mounts.selector": "counts with the input that it is of",
}
REFUSED = {
    "mounts.input": "there is one input",
    "mounts.dest": "what is set here is no absolute path",
    "mounts.output": "outputs are counted from 0",
}


def leaves(
    message: Descriptor, above: tuple[FieldDescriptor, ...] = ()
) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Every field that holds a value, with the messages that it is in."""
    for each in message.fields:
        if each.message_type is None:
            yield (*above, each)
        else:
            yield from leaves(each.message_type, (*above, each))


def name(path: tuple[FieldDescriptor, ...]) -> str:
    return ".".join(each.name for each in path)


def value(field: FieldDescriptor) -> Any:
    """One that is not the default."""
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return "x"
        case FieldDescriptor.TYPE_BOOL:
            return True
        case FieldDescriptor.TYPE_ENUM:
            return 1
    return 9


def base() -> pb.ExecOp:
    op = pb.ExecOp(meta=pb.Meta(args=["true"], cwd="/"))
    op.mounts.add(dest="/m", mountType=pb.CACHE, input=-1, output=-1, cacheOpt=pb.CacheOpt(ID="cache"))
    op.mounts.add(dest="/", input=0, output=0)
    return op


def changed(path: tuple[FieldDescriptor, ...]) -> pb.ExecOp:
    op = base()
    message: Any = op
    for each in path[:-1]:
        inner = getattr(message, each.name)
        if each.is_repeated:
            inner = inner[0] if len(inner) else inner.add()
        message = inner
    last = path[-1]
    if last.is_repeated:
        getattr(message, last.name).append(value(last))
    else:
        setattr(message, last.name, value(last))
    return op


def digest(op: pb.ExecOp) -> str:
    source = Vertex("sha256:0", pb.Op(source=pb.SourceOp(identifier="local://x")), (), pb.OpMetadata())
    message = pb.Op(exec=op)
    vertex = Vertex(
        digest_of(message.SerializeToString(deterministic=True)), message, (Edge(source),), pb.OpMetadata()
    )
    operation = RunOperation(vertex, tools=None)  # type: ignore[arg-type]
    return asyncio.run(operation.identify()).digest


@pytest.mark.parametrize("path", list(leaves(pb.ExecOp.DESCRIPTOR)), ids=name)
def test_each_field_counts_or_is_refused(path: tuple[FieldDescriptor, ...]) -> None:
    if name(path) in REFUSED:
        with pytest.raises(SampanError):
            digest(changed(path))
    elif name(path) in LEFT_OUT:
        # Of a host the name counts, and so does that it is there at all.
        plain = base()
        if "extraHosts" in name(path):
            plain.meta.extraHosts.add()
        assert digest(changed(path)) == digest(plain)
    else:
        assert digest(changed(path)) != digest(base())


def test_the_lists_name_fields_that_there_are() -> None:
    assert {*REFUSED, *LEFT_OUT} <= {name(path) for path in leaves(pb.ExecOp.DESCRIPTOR)}


@pytest.mark.parametrize("field", ["network", "security", "mountType", "contentCache", "sharing"])
def test_choices_that_there_are_not_are_no_defaults(field: str) -> None:
    op = base()
    of: Any = op if field in ("network", "security") else op.mounts[0]
    setattr(of.cacheOpt if field == "sharing" else of, field, 77)
    with pytest.raises(SampanError, match="77"):
        digest(op)


def test_mounts_that_can_leave_nothing_count_as_no_output() -> None:
    op = base()
    op.mounts.add(dest="/run/secrets/s", mountType=pb.SECRET, input=-1, secretOpt=pb.SecretOpt(ID="s"))
    op.mounts.add(dest="/agent", mountType=pb.SSH, input=-1)
    op.mounts.add(dest="/memory", mountType=pb.TMPFS, input=-1)
    assert all(each.output == 0 for each in op.mounts[2:])
    assert digest(op) != digest(base())
