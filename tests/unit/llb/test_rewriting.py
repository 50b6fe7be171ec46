"""Other sources in a graph."""

from __future__ import annotations

import random

from sampan.llb import ops_pb2 as pb
from sampan.llb import state
from sampan.llb.execop import Command
from sampan.llb.fileop import Copy
from sampan.llb.graph import load
from sampan.llb.rewriting import sources_of, with_sources


def made() -> pb.Definition:
    one, two = state.image("a:1"), state.image("b:1")
    ran = one.run(Command(args=["x"]), meta=state.Meta(name="named", places=((1, 2),))).root
    return state.definition(state.change(ran, [Copy(two, "/", "/")]), state.Text("Dockerfile", b"FROM a"))


def test_what_stands_on_a_changed_source_follows() -> None:
    before = made()
    sources = sources_of(before)
    assert sorted(each.identifier for each in sources.values()) == [
        "docker-image://a:1",
        "docker-image://b:1",
    ]
    changed = {
        digest: pb.SourceOp(identifier=each.identifier.replace("a:1", "c:2"))
        for digest, each in sources.items()
    }
    after = with_sources(before, changed)
    graph = load(after)
    assert sorted(each.op.source.identifier for each in graph.vertices() if each.kind == "source") == [
        "docker-image://b:1",
        "docker-image://c:2",
    ]
    (ran,) = [each for each in graph.vertices() if each.kind == "exec"]
    assert ran.name == "named" and after.source.locations[ran.digest].locations
    assert len(after.source.locations) == len(before.source.locations)


def test_nothing_changes_where_nothing_is_changed() -> None:
    before = made()
    assert with_sources(before, {}) == before
    assert with_sources(before, sources_of(before)) == before


def test_the_order_of_operations_does_not_matter() -> None:
    before = made()
    *ops, last = before.ops
    random.Random(1).shuffle(ops)
    shuffled = pb.Definition()
    shuffled.CopyFrom(before)
    del shuffled.ops[:]
    shuffled.ops.extend([*ops, last])
    changed = {digest: pb.SourceOp(identifier="docker-image://x") for digest in sources_of(before)}
    assert load(with_sources(shuffled, changed)).result == load(with_sources(before, changed)).result
