"""Making graphs: a `State` is one output of one operation, and each method gives the next.

::

    base = image("docker.io/library/busybox:latest")
    made = base.run(Command(args=["make"]), mounts=[Bind(local("context"), "/src", readonly=True)]).root
    result = base.file(Copy(made, "/out/app", "/bin/app"))
    data = definition(result)

The same calls give the same bytes, and so the same digests: messages are serialized in the order of their field numbers, maps
by key. `None` stands for the empty file system (scratch).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sampan.llb import ops_pb2 as pb
from sampan.llb.execop import Command, ExecMount, exec_op
from sampan.llb.fileop import Action, file_op
from sampan.llb.graph import NAME, digest_of, inputs_first, load


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What goes with an operation without being part of it. `places` are (first line, last line) in the text it was made from."""

    name: str = ""
    ignore_cache: bool = False
    places: tuple[tuple[int, int], ...] = ()
    description: Mapping[str, str] = field(default_factory=dict)
    group: pb.ProgressGroup | None = None
    resources: pb.LinuxResources | None = None


NOTHING = Meta()


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An operation, serialized."""

    digest: str
    data: bytes
    inputs: tuple[State, ...]
    meta: Meta


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Output `index` of an operation."""

    node: Node
    index: int = 0

    def run(self, command: Command, mounts: Sequence[ExecMount] = (), meta: Meta = NOTHING) -> Ran:
        """Run a program with this as its root. See `execop`."""
        return run(self, command, mounts, meta)

    def file(self, *actions: Action, meta: Meta = NOTHING) -> State:
        """Do actions one after the other on this. See `fileop`."""
        return change(self, actions, meta)


@dataclass(frozen=True, slots=True, eq=False)
class Ran:
    """What a program left: its root, and each writable mount by its destination."""

    root: State
    mounts: Mapping[str, State]


def source(
    identifier: str,
    attributes: Mapping[str, str] | None = None,
    meta: Meta = NOTHING,
    platform: pb.Platform | None = None,
) -> State:
    """Files from elsewhere: `docker-image://`, `local://`, `git://`, `https://`, `oci-layout://`, with BuildKit's attributes."""
    op = pb.Op(source=pb.SourceOp(identifier=identifier, attrs=dict(attributes or {})))
    if platform is not None:
        op.platform.CopyFrom(platform)
    return State(_node(op, (), meta))


def image(
    reference: str, *, platform: pb.Platform | None = None, resolve: str = "", meta: Meta = NOTHING
) -> State:
    """An image of a registry or of the engine. `resolve`: `default`, `pull` or `local`."""
    attributes = {"image.resolvemode": resolve} if resolve else {}
    return source(f"docker-image://{reference}", attributes, meta, platform)


def local(name: str, attributes: Mapping[str, str] | None = None, meta: Meta = NOTHING) -> State:
    """A directory of the client's, by the name that client and definition agree on."""
    return source(f"local://{name}", attributes, meta)


def run(root: State | None, command: Command, mounts: Sequence[ExecMount] = (), meta: Meta = NOTHING) -> Ran:
    """Run a program. Raises `ValueError` for two mounts in one place."""
    op, inputs, outputs = exec_op(root, command, mounts)
    node = _node(op, inputs, meta)
    return Ran(State(node), {destination: State(node, index) for destination, index in outputs.items()})


def change(
    base: State | None, actions: Sequence[Action], meta: Meta = NOTHING, platform: pb.Platform | None = None
) -> State:
    """Actions on a file system, one after the other."""
    op, inputs = file_op(base, actions)
    if platform is not None:
        op.platform.CopyFrom(platform)
    return State(_node(op, inputs, meta))


def merge(layers: Iterable[State | None], meta: Meta = NOTHING) -> State | None:
    """Each over those before it. Of one, that one; of none, nothing."""
    states = [each for each in layers if each is not None]
    if len(states) < 2:
        return states[0] if states else None
    inputs, numbers = _numbered(states)
    op = pb.Op(merge=pb.MergeOp(inputs=[pb.MergeInput(input=number) for number in numbers]))
    return State(_node(op, inputs, meta))


def diff(lower: State | None, upper: State | None, meta: Meta = NOTHING) -> State | None:
    """What `upper` changed against `lower`, as a layer of its own."""
    if upper is None or lower is None:
        return upper
    inputs, (below, above) = _numbered([lower, upper])
    op = pb.Op(diff=pb.DiffOp(lower=pb.LowerDiffInput(input=below), upper=pb.UpperDiffInput(input=above)))
    return State(_node(op, inputs, meta))


@dataclass(frozen=True, slots=True)
class Text:
    """The text that a graph was made from, for errors that show the place."""

    filename: str
    data: bytes
    language: str = "Dockerfile"


def definition(state: State | None, text: Text | None = None) -> pb.Definition:
    """The graph of a state, as it is sent. The last operation names the result; of an empty file system there are none."""
    made = pb.Definition()
    if state is None:
        return made
    for node in _nodes(state.node):
        made.ops.append(node.data)
        _describe(made, node)
    # Of equal operations the last one names both, as BuildKit does it.
    for node in inputs_first(state.node, lambda each: [given.node for given in each.inputs], key=id):
        _describe(made, node)
    final = pb.Op(inputs=[pb.Input(digest=state.node.digest, index=state.index)])
    made.ops.append(final.SerializeToString(deterministic=True))
    if text is not None:
        made.source.infos.append(
            pb.SourceInfo(filename=text.filename, data=text.data, language=text.language)
        )
        for node in _nodes(state.node):
            if node.meta.places:
                made.source.locations[node.digest].locations.append(
                    pb.Location(sourceIndex=0, ranges=[_range(*place) for place in node.meta.places])
                )
    return made


def loaded(given: pb.Definition) -> State | None:
    """A graph that came, as one to build on; None is the empty file system. Raises `InvalidParameter` for what is none."""
    graph = load(given)
    if graph.result is None:
        return None
    data = {digest_of(each): each for each in given.ops}
    nodes: dict[str, Node] = {}
    for vertex in graph.vertices():
        inputs = tuple(State(nodes[edge.vertex.digest], edge.index) for edge in vertex.inputs)
        described = vertex.metadata
        meta = Meta(
            name=described.description.get(NAME, ""),
            ignore_cache=described.ignore_cache,
            description=dict(described.description),
            group=described.progress_group if described.HasField("progress_group") else None,
            resources=described.linux_resources if described.HasField("linux_resources") else None,
        )
        nodes[vertex.digest] = Node(vertex.digest, data[vertex.digest], inputs, meta)
    return State(nodes[graph.result.vertex.digest], graph.result.index)


def _describe(made: pb.Definition, node: Node) -> None:
    meta = made.metadata[node.digest]  # makes the entry
    meta.ignore_cache = meta.ignore_cache or node.meta.ignore_cache
    for key, value in node.meta.description.items():
        meta.description[key] = value
    if node.meta.name:
        meta.description[NAME] = node.meta.name
    if node.meta.group is not None:
        meta.progress_group.CopyFrom(node.meta.group)
    if node.meta.resources is not None:
        meta.linux_resources.CopyFrom(node.meta.resources)


def _range(first: int, last: int) -> pb.Range:
    return pb.Range(start=pb.Position(line=first), end=pb.Position(line=last))


def _node(op: pb.Op, inputs: tuple[State, ...], meta: Meta) -> Node:
    op.inputs.extend(pb.Input(digest=each.node.digest, index=each.index) for each in inputs)
    data = op.SerializeToString(deterministic=True)
    return Node(digest_of(data), data, inputs, meta)


def _numbered(states: Sequence[State]) -> tuple[tuple[State, ...], list[int]]:
    """Inputs without repetition, and the number of each state among them."""
    inputs: dict[tuple[str, int], State] = {}
    for each in states:
        inputs.setdefault((each.node.digest, each.index), each)
    order = list(inputs)
    return tuple(inputs.values()), [order.index((each.node.digest, each.index)) for each in states]


def _nodes(node: Node) -> Iterator[Node]:
    """All that a node stands on, inputs first, itself last."""
    return inputs_first(node, lambda each: [state.node for state in each.inputs])
