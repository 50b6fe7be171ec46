"""Building through Control and LLBBridge, by a client in Python that does what buildx does."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from buildkit_client import CONTROL, Builder, building, graph, run
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


def test_builds_that_were_are_remembered(make_engine: Callable[..., RunningEngine], tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo said && exit 9\n")
    running = make_engine()
    ref = ""

    async def listed(builder: Builder) -> list[Any]:
        async with builder.client.stream(CONTROL["ListenBuildHistory"]) as stream:
            await stream.send_message(control_pb2.BuildHistoryRequest(EarlyExit=True), end=True)
            return [event.record async for event in stream]

    async def update(builder: Builder, **request: Any) -> None:
        sent = control_pb2.UpdateBuildHistoryRequest(Ref=ref, **request)
        await builder.client.call(CONTROL["UpdateBuildHistory"], sent)

    async def before() -> None:
        nonlocal ref
        async with building(running, tmp_path) as builder:
            ref = builder.ref
            with pytest.raises(SampanError):
                await builder.solve(Frontend="dockerfile.v0", FrontendAttrs={"target": ""})
            await update(builder, Pinned=True)

    async def after() -> None:
        async with building(running, tmp_path) as builder:
            (record,) = await listed(builder)
            assert (record.Ref, record.Frontend, record.pinned) == (ref, "dockerfile.v0", True)
            assert "exit code: 9" in record.error.message and record.error.details
            assert record.numTotalSteps == record.numCompletedSteps + 1
            builder.ref = ref
            await builder._follow()
            assert builder.output == "said\n"
            await update(builder, Delete=True)
            assert await listed(builder) == []
            with pytest.raises(NotFound):
                await update(builder, Delete=True)

    run(before())
    running.kill()
    running.start()
    run(after())


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
