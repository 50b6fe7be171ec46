"""A graph of vertices, read from a `Definition` that a client sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError

from sampan.errors import InvalidParameter
from sampan.llb import ops_pb2 as pb

MAX_VERTICES = 20_000
"""Vertices of one definition; BuildKit has no such limit, a client that needs more is at fault."""

NAME = "llb.customname"
"""Key of a vertex's description under which clients put what progress shows."""


class Digested(Protocol):
    """Whatever is known by the digest of its bytes."""

    @property
    def digest(self) -> str: ...


Named = TypeVar("Named", bound=Digested)


@dataclass(frozen=True, slots=True)
class Edge:
    """One output of a vertex."""

    vertex: Vertex
    index: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Vertex:
    """An operation with the edges that it takes in. Two are the same when their digests are."""

    digest: str
    """`sha256:…` of the operation's bytes."""
    op: pb.Op
    inputs: tuple[Edge, ...]
    metadata: pb.OpMetadata = field(repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vertex) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def kind(self) -> str:
        """`source`, `exec`, `file`, `merge`, `diff`, `build` or `passthrough`."""
        return self.op.WhichOneof("op") or ""

    @property
    def name(self) -> str:
        """What progress calls it."""
        return self.metadata.description.get(NAME) or _described(self.op)


@dataclass(frozen=True, slots=True)
class Graph:
    """What a definition says: the edge that it is about (None: an empty file system), and where vertices stand in their text."""

    result: Edge | None
    source: pb.Source

    def vertices(self) -> Iterator[Vertex]:
        """All of them, inputs before what takes them."""
        if self.result is not None:
            yield from ancestry(self.result.vertex)


def ancestry(vertex: Vertex) -> Iterator[Vertex]:
    """A vertex and all that it stands on, inputs first, each once."""
    return inputs_first(vertex, lambda each: [edge.vertex for edge in each.inputs])


def inputs_first(
    last: Named,
    inputs_of: Callable[[Named], Sequence[Named]],
    key: Callable[[Named], object] = attrgetter("digest"),
) -> Iterator[Named]:
    """What stands on others, inputs first and itself last, each once. No recursion: graphs are deep, and a client's."""
    seen: set[object] = set()
    stack = [(last, False)]
    while stack:
        each, entered = stack.pop()
        if entered:
            yield each
        elif key(each) not in seen:
            seen.add(key(each))
            stack.append((each, True))
            stack.extend((needed, False) for needed in reversed(inputs_of(each)))


def digest_of(data: bytes) -> str:
    """The name of the vertex with these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def load(definition: pb.Definition) -> Graph:
    """The graph of a definition. Raises `InvalidParameter` for what is none: bytes that are no operation, edges to nowhere."""
    if not definition.ops:
        return Graph(None, definition.source)
    if len(definition.ops) > MAX_VERTICES:
        raise InvalidParameter(f"invalid build definition: more than {MAX_VERTICES} vertices")
    ops: dict[str, pb.Op] = {}
    last = ""
    for data in definition.ops:
        last = digest_of(data)
        ops[last] = _parsed(data)
    final = ops.pop(last)
    if final.WhichOneof("op") is not None or len(final.inputs) != 1:
        # What a client asks for is the one input of an operation that does nothing.
        raise InvalidParameter("invalid LLB with no final vertex")
    return Graph(_connected(ops, definition, final.inputs[0]), definition.source)


def _parsed(data: bytes) -> pb.Op:
    try:
        return pb.Op.FromString(data)
    except DecodeError as error:
        raise InvalidParameter(f"failed to parse llb proto op: {error}") from None


def _connected(ops: dict[str, pb.Op], definition: pb.Definition, wanted: pb.Input) -> Edge:
    """The wanted edge, with everything below it. Digests rule out circles; depth must not be Python's."""
    made: dict[str, Vertex] = {}
    stack = [wanted.digest]
    while stack:
        digest = stack[-1]
        if digest in made:
            stack.pop()
            continue
        op = ops.get(digest)
        if op is None:
            raise InvalidParameter(f"invalid missing input digest {digest}")
        if op.WhichOneof("op") is None:
            raise InvalidParameter(f"invalid LLB vertex {digest} without an operation")
        missing = [each.digest for each in op.inputs if each.digest not in made]
        if missing:
            stack.extend(missing)
            continue
        made[digest] = Vertex(
            digest, op, tuple(_edge(made, each) for each in op.inputs), _metadata(definition, digest)
        )
        stack.pop()
    return _edge(made, wanted)


def _edge(made: dict[str, Vertex], wanted: pb.Input) -> Edge:
    if not 0 <= wanted.index < 1 << 31:
        raise InvalidParameter(f"invalid output index {wanted.index} of {wanted.digest}")
    return Edge(made[wanted.digest], wanted.index)


def _metadata(definition: pb.Definition, digest: str) -> pb.OpMetadata:
    if digest in definition.metadata:  # asking a protobuf map for a key makes the key
        return definition.metadata[digest]
    return pb.OpMetadata()


def _described(op: pb.Op) -> str:
    """BuildKit's names of vertices that have none of their own."""
    match op.WhichOneof("op"):
        case "source":
            return op.source.identifier
        case "exec":
            return " ".join(op.exec.meta.args)
        case "file":
            return ", ".join(_described_action(action) for action in op.file.actions)
        case "merge":
            return "merge"
        case "diff":
            return "diff"
        case "build":
            return "build"
    return "vertex"


def _described_action(action: pb.FileAction) -> str:
    match action.WhichOneof("action"):
        case "copy":
            return f"copy {action.copy.src} {action.copy.dest}"
        case "mkfile":
            return f"mkfile {action.mkfile.path}"
        case "mkdir":
            return f"mkdir {action.mkdir.path}"
        case "rm":
            return f"rm {action.rm.path}"
        case "symlink":
            return f"symlink {action.symlink.oldpath} {action.symlink.newpath}"
    return "nothing"
