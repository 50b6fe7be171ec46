"""Graphs made in Python, read back, and hostile ones."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidParameter
from sampan.llb import ops_pb2 as pb
from sampan.llb.execop import Bind, Cache, Command
from sampan.llb.fileop import Copy, MakeDirectory, MakeFile
from sampan.llb.graph import load
from sampan.llb.state import Meta, State, Text, change, definition, diff, image, loaded, merge, run


def _example() -> State:
    base = image("docker.io/library/busybox:latest", meta=Meta(name="FROM busybox"))
    built = base.run(Command(args=["make"]), [Cache("/cache", "c"), Bind(base, "/b")]).root
    return base.file(MakeDirectory("/out"), Copy(built, "/made", "/out/"))


def test_what_was_made_is_read_back() -> None:
    text = Text("Dockerfile", b"FROM busybox\n")
    graph = load(pb.Definition.FromString(definition(_example(), text).SerializeToString()))
    assert graph.result is not None
    vertices = list(graph.vertices())
    assert [each.kind for each in vertices] == ["source", "exec", "file"]
    assert vertices[0].name == "FROM busybox" and vertices[1].name == "make"
    file = graph.result.vertex
    assert [edge.vertex.kind for edge in file.inputs] == ["source", "exec"]
    copy = file.op.file.actions[1]
    assert (copy.input, copy.secondaryInput, copy.output) == (
        2,
        1,
        0,
    )  # on the first action's result, from the second input
    assert file.op.file.actions[0].output == -1


def test_what_came_is_built_on() -> None:
    came = pb.Definition.FromString(definition(_example()).SerializeToString())
    again = loaded(came)
    assert again is not None and definition(again).ops == came.ops
    assert load(definition(again)).result == load(came).result
    further = definition(again.file(MakeDirectory("/more")))
    assert list(further.ops[:3]) == list(came.ops[:3])
    assert loaded(pb.Definition()) is None


def test_same_calls_give_the_same_bytes() -> None:
    assert definition(_example()).SerializeToString(deterministic=True) == definition(
        _example()
    ).SerializeToString(deterministic=True)


def test_a_vertex_is_named_by_its_bytes() -> None:
    made = definition(_example())
    names = {f"sha256:{hashlib.sha256(data).hexdigest()}" for data in made.ops[:-1]}
    assert {each.digest for each in load(made).vertices()} == names


def test_nothing_is_an_empty_file_system() -> None:
    assert load(definition(None)).result is None
    assert merge([]) is None and diff(None, None) is None
    one = change(None, [MakeFile("/a", b"")])
    assert merge([None, one]) is one and diff(None, one) is one


def test_an_input_that_is_missing_is_refused() -> None:
    made = definition(_example())
    del made.ops[0]
    with pytest.raises(InvalidParameter, match="invalid missing input digest"):
        load(made)


def test_a_definition_without_a_result_is_refused() -> None:
    made = definition(_example())
    del made.ops[-1]
    with pytest.raises(InvalidParameter, match="no final vertex"):
        load(made)


def test_depth_is_not_pythons() -> None:
    state: State | None = None
    for number in range(5000):
        state = change(state, [MakeFile(f"/{number}", b"")])
    assert sum(1 for _ in load(definition(state)).vertices()) == 5000


def test_two_mounts_in_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match="two mounts"):
        run(None, Command(args=["true"]), [Cache("/c", "a"), Cache("/c", "b")])


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_bytes_are_a_graph_or_refused(ops: list[bytes]) -> None:
    try:
        list(load(pb.Definition(ops=ops)).vertices())
    except InvalidParameter:
        pass
