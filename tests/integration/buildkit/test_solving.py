"""Building through Control and LLBBridge, by a client in Python that does what buildx does."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError

from buildkit_client import CONTROL, building, graph, run
from running_engine import RunningEngine
from sampan.buildkit.protos import control_pb2, gateway_pb2
from sampan.errors import NotFound, SampanError
from sampan.llb import ops_pb2

pytestmark = pytest.mark.root

IMAGE = [control_pb2.Exporter(Type="image", Attrs={"name": "built"})]


def test_a_graph_becomes_an_image_and_tells_how(engine: RunningEngine, tmp_path: Path) -> None:
    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            answer = await builder.solve(Definition=graph("echo said; echo made > /made"), Exporters=IMAGE)
            assert answer["image.name"] == "docker.io/library/built:latest"
            assert builder.output == "said\n"
            last = {each.digest: each for each in builder.told.vertexes}
            assert len(last) == 3 and all(each.completed.seconds and not each.error for each in last.values())

    run(work())
    assert engine.docker("run", "--rm", "--net", "none", "built", "cat", "/made").stdout == "made\n"


def test_a_frontend_at_the_client_reads_and_returns(engine: RunningEngine, tmp_path: Path) -> None:
    """As buildx does for every build: the solve waits, the Dockerfile frontend is asked through the bridge."""
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY word /dir/\nRUN cat /dir/word\nLABEL a=b\n")
    (tmp_path / "word").write_text("hello")

    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            solving = asyncio.create_task(builder.solve(Exporters=IMAGE))
            pong = await builder.ask("Ping", gateway_pb2.PingRequest())
            assert "importcaches" in {each.ID for each in pong.FrontendAPICaps if each.Enabled}
            asked = gateway_pb2.SolveRequest(
                Frontend="dockerfile.v0", allowResultReturn=True, allowResultArrayRef=True
            )
            solved = await builder.ask("Solve", asked)
            ref = solved.result.ref.id
            config = json.loads(solved.result.metadata["containerimage.config"])
            assert config["config"]["Labels"] == {"a": "b"}
            read = await builder.ask("ReadFile", gateway_pb2.ReadFileRequest(Ref=ref, FilePath="/dir/word"))
            assert read.Data == b"hello"
            listed = await builder.ask("ReadDir", gateway_pb2.ReadDirRequest(Ref=ref, DirPath="dir"))
            assert [each.path for each in listed.entries] == ["word"]
            with pytest.raises(NotFound):
                await builder.ask("StatFile", gateway_pb2.StatFileRequest(Ref=ref, Path="/dir/none"))
            assert not solving.done()
            await builder.ask("Return", gateway_pb2.ReturnRequest(result=solved.result))
            await solving
            assert builder.output == "hello"

    run(work())
    shown = json.loads(engine.docker("image", "inspect", "built").stdout)
    assert shown[0]["Config"]["Labels"] == {"a": "b"}


def test_what_fails_carries_its_place(engine: RunningEngine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN exit 9\n")

    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            with pytest.raises(SampanError, match="exit code: 9") as caught:
                await builder.solve(Frontend="dockerfile.v0")
            cause = caught.value.__cause__
            assert isinstance(cause, GRPCError)
            told = {each.type_url.rpartition(".")[2]: json.loads(each.value) for each in cause.details or ()}
            assert told["Source+json"]["ranges"] == [{"start": {"line": 2}, "end": {"line": 2}}]
            failed = [each for each in builder.told.vertexes if each.error]
            assert told["Vertex+json"]["digest"] == failed[-1].digest

    run(work())


def test_a_client_that_goes_away_ends_its_build(engine: RunningEngine, tmp_path: Path) -> None:
    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            solving = asyncio.create_task(builder.solve(Definition=graph("echo begun; sleep 600")))
            while "begun" not in builder.output:
                await asyncio.sleep(0.02)
        with pytest.raises(SampanError):
            await solving
        while os.listdir(engine.exec_root / "programs"):
            await asyncio.sleep(0.02)

    run(work())


def test_the_hosts_network_is_for_clients_to_allow(engine: RunningEngine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN --network=host readlink /proc/self/ns/net\n")

    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            with pytest.raises(SampanError, match=r"network\.host is not allowed"):
                await builder.solve(Frontend="dockerfile.v0")
        async with building(engine, tmp_path) as builder:
            await builder.solve(Frontend="dockerfile.v0", Entitlements=["network.host"])
            assert builder.output.strip() == os.readlink("/proc/self/ns/net")

    run(work())


def test_a_solve_that_is_refused_is_not_waited_for(engine: RunningEngine, tmp_path: Path) -> None:
    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            asking = asyncio.create_task(builder.ask("Ping", gateway_pb2.PingRequest()))
            reading = asyncio.create_task(
                builder.ask("ReadFile", gateway_pb2.ReadFileRequest(Ref="x", FilePath="y"))
            )
            with pytest.raises(SampanError, match="'odd' could not be found"):
                await builder.client.call(
                    CONTROL["Solve"],
                    control_pb2.SolveRequest(Ref=builder.ref, Exporters=[control_pb2.Exporter(Type="odd")]),
                )
            with pytest.raises(NotFound, match=f"no such job {builder.ref}"):
                await asyncio.wait_for(reading, 3)
            await asking

    run(work())


def test_names_that_nobody_knows(engine: RunningEngine, tmp_path: Path) -> None:
    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            for request, message in [
                ({"Frontend": "other.v0"}, "failed to find a frontend"),
                ({"Exporters": [control_pb2.Exporter(Type="odd")]}, "exporter 'odd' could not be found"),
                ({"Definition": ops_pb2.Definition(ops=[b"\xff"])}, "failed to parse llb"),
            ]:
                sent = control_pb2.SolveRequest(Ref=secrets.token_hex(4), Session=builder.session, **request)
                with pytest.raises(SampanError, match=message):
                    await builder.client.call(CONTROL["Solve"], sent)

    run(work())
