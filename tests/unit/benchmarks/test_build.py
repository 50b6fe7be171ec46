"""What the builds' benchmark is made of: projects, the stub, counted bytes, verdicts. Nothing is measured here."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from benchmarks.build import projects, rows, stub, table, wire
from benchmarks.build.builders import Sample
from benchmarks.build.rows import Row

from sampan.buildkit.protos import control_pb2, gateway_pb2
from sampan.dockerfile.stages import read
from sampan.grpc.client import GrpcClient

CONTROL = control_pb2.DESCRIPTOR.services_by_name["Control"].methods_by_name
BRIDGE = gateway_pb2.DESCRIPTOR.services_by_name["LLBBridge"].methods_by_name


def test_projects_are_dockerfiles_that_no_cache_knows(tmp_path: Path) -> None:
    first, second = (projects.twenty_instructions(tmp_path / name) for name in ("a", "b"))
    texts = [(each.directory / "Dockerfile").read_text() for each in (first, second)]
    assert texts[0] != texts[1]
    assert len(texts[0].splitlines()) == projects.INSTRUCTIONS
    stages = projects.independent_stages(tmp_path / "c")
    for project in (
        first,
        stages,
        projects.big_stage(tmp_path / "d"),
        projects.many_files(tmp_path / "e", 150),
    ):
        read((project.directory / "Dockerfile").read_bytes(), "Dockerfile")
    assert projects.size(project) > 150_000
    before = (project.directory / "files/000/00007").read_bytes()
    projects.touch_one_of_many(project)
    assert (project.directory / "files/000/00007").read_bytes() != before


def test_the_stub_answers_a_build(tmp_path: Path) -> None:
    """As buildx asks: a solve that waits for its frontend, which asks and returns."""

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: stub.Door(stub.grpc_server()), str(tmp_path / "s"))
        transport, _ = await loop.create_unix_connection(asyncio.Protocol, str(tmp_path / "s"))
        client = GrpcClient(transport)
        transport.set_protocol(client.protocol)
        solving = asyncio.create_task(client.call(CONTROL["Solve"], control_pb2.SolveRequest(Ref="r")))
        metadata = [("buildkit-controlapi-buildid", "r")]
        async with client.stream(BRIDGE["Solve"], metadata) as call:
            await call.send_message(gateway_pb2.SolveRequest(Frontend="dockerfile.v0"), end=True)
            assert (await call.recv_message()).result.ref.id
        async with client.stream(BRIDGE["Return"], metadata) as call:
            await call.send_message(gateway_pb2.ReturnRequest(), end=True)
            await call.recv_message()
        assert (await solving).ExporterResponse["containerimage.digest"]
        async with client.stream(CONTROL["Status"]) as following:
            await following.send_message(control_pb2.StatusRequest(Ref="r"), end=True)
            told = [message async for message in following]
        assert len(told[0].vertexes) == stub.VERTICES
        client.close()
        server.close()

    asyncio.run(asyncio.wait_for(ask(), 20))


def test_bytes_are_counted_in_both_directions(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as engine, socket.socket(socket.AF_UNIX) as client:
        engine.bind(str(tmp_path / "engine"))
        engine.listen()
        with wire.counted(str(tmp_path / "engine"), tmp_path / "relay") as relay:
            client.connect(str(tmp_path / "relay"))
            accepted, _ = engine.accept()
            with accepted, accepted.makefile("rb") as received:
                client.sendall(b"x" * 100_000)
                client.shutdown(socket.SHUT_WR)
                assert len(received.read()) == 100_000
                accepted.sendall(b"y" * 7)
                accepted.shutdown(socket.SHUT_WR)
                assert client.recv(100) == b"y" * 7
                assert client.recv(100) == b""
            assert (relay.sent, relay.answered) == (100_000, 7)


@pytest.mark.parametrize(
    ("peer", "own", "floor", "passed"),
    [
        (300, 100, 70, [True, True]),
        (300, 101, 70, [True, False]),  # the stub's own ten are not the client's
        (90, 100, 70, [False, True]),
    ],
)
def test_a_cached_build_is_held_against_peer_and_floor(
    peer: float, own: float, floor: float, passed: list[bool]
) -> None:
    samples = {"d": [Sample(peer, 0)], "s": [Sample(own, 5)], table.FLOOR: [Sample(floor, 10)]}
    row = Row("cached", "cached", samples, rows.LEVEL, rows.ABOVE_THE_FLOOR)
    assert [verdict.passed for verdict in table.verdicts(row, "d", "s")] == passed
    assert table.passed([row], "d", "s") is all(passed)


def test_a_context_that_is_sent_again_fails() -> None:
    samples = {"d": [Sample(300, 0)], "s": [Sample(100, 0)]}
    row = Row("same", "same", samples, rows.LEVEL, None, {"s": 20_000_000}, 5_000_000)
    assert [verdict.passed for verdict in table.verdicts(row, "d", "s")] == [True, False]
    assert table.table([row], "d", "s").splitlines()[-1] == (
        "| same | 300 ms, CPU 0 | 100 ms, CPU 0, 20.00 MB | 3.00× (level) pass; 20.00 MB (≤ 5.0 MB sent) **fail** |"
    )
