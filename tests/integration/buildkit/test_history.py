"""What is kept of builds that were, and the content service by which clients read it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildkit_client import CONTROL, Builder, building, graph, run
from running_engine import RunningEngine
from sampan.buildkit.protos import content_pb2, control_pb2, gateway_pb2
from sampan.errors import InvalidParameter, NotFound, NotSupported, SampanError
from sampan.grpc import status_pb2
from sampan.names.digest import digest_of
from sampan.names.times import parse_rfc3339

pytestmark = pytest.mark.root

CONTENT = content_pb2.DESCRIPTOR.services_by_name["Content"].methods_by_name
IMAGE = [control_pb2.Exporter(Type="image", Attrs={"name": "built"})]
SECRET = b"correct-horse-battery-staple"


async def records(builder: Builder) -> list[Any]:
    async with builder.client.stream(CONTROL["ListenBuildHistory"]) as stream:
        await stream.send_message(control_pb2.BuildHistoryRequest(EarlyExit=True), end=True)
        return [event.record async for event in stream]


async def update(builder: Builder, **request: Any) -> None:
    sent = control_pb2.UpdateBuildHistoryRequest(Ref=builder.ref, **request)
    await builder.client.call(CONTROL["UpdateBuildHistory"], sent)


async def read(builder: Builder, digest: str, offset: int = 0, size: int = 0) -> bytes:
    async with builder.client.stream(CONTENT["Read"]) as stream:
        request = content_pb2.ReadContentRequest(digest=digest, offset=offset, size=size)
        await stream.send_message(request, end=True)
        parts = [message async for message in stream]
    assert [each.offset for each in parts] == [
        offset + sum(len(x.data) for x in parts[:number]) for number in range(len(parts))
    ]
    return b"".join(each.data for each in parts)


def test_builds_that_were_are_remembered(make_engine: Callable[..., RunningEngine], tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo said && exit 9\n")
    running = make_engine()
    ref = ""

    async def before() -> None:
        nonlocal ref
        async with building(running, tmp_path) as builder:
            ref = builder.ref
            with pytest.raises(SampanError):
                await builder.solve(Frontend="dockerfile.v0", FrontendAttrs={"target": ""})
            await update(builder, Pinned=True)

    async def after() -> None:
        async with building(running, tmp_path) as builder:
            (record,) = await records(builder)
            assert (record.Ref, record.Frontend, record.pinned) == (ref, "dockerfile.v0", True)
            assert "exit code: 9" in record.error.message
            told = status_pb2.Status.FromString(await read(builder, record.externalError.digest))
            assert told.message == record.error.message and told.details
            assert record.numTotalSteps == record.numCompletedSteps
            assert b"said" in await read(builder, record.logs.digest)
            builder.ref = ref
            await builder._follow()
            assert builder.output == "said\n"
            await update(builder, Delete=True)
            assert await records(builder) == []
            for gone in (record.logs, record.trace, record.externalError):
                with pytest.raises(NotFound):
                    await read(builder, gone.digest)
            with pytest.raises(NotFound):
                await update(builder, Delete=True)

    run(before())
    running.kill()
    running.start()
    run(after())


def test_a_running_build_is_known_with_the_time_by_which_it_runs(
    engine: RunningEngine, tmp_path: Path
) -> None:
    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            solving = asyncio.create_task(builder.solve(Definition=graph("echo begun; sleep 600")))
            while "begun" not in builder.output:
                await asyncio.sleep(0.02)
            for ref in (builder.ref, "nobodys"):
                async with builder.client.stream(CONTROL["ListenBuildHistory"]) as stream:
                    request = control_pb2.BuildHistoryRequest(Ref=ref, EarlyExit=True)
                    await stream.send_message(request, end=True)
                    await stream.recv_initial_metadata()
                    assert stream.initial_metadata is not None
                    told = stream.initial_metadata["buildkit-current-timestamp"]
                    assert parse_rfc3339(str(told)) > 0
                    listed = [event.record.Ref async for event in stream]
                    assert listed == [ref] * (ref == builder.ref)
        with pytest.raises(SampanError):
            await solving

    run(work())


def test_what_a_frontend_attests_is_refused(engine: RunningEngine, tmp_path: Path) -> None:
    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            solving = asyncio.create_task(builder.solve())
            given = gateway_pb2.Result()
            given.attestations[""].attestation.add(path="sbom.json")
            with pytest.raises(NotSupported, match="attestations that a frontend makes"):
                await builder.ask("Return", gateway_pb2.ReturnRequest(result=given))
        with pytest.raises(SampanError):
            await solving

    run(work())


def test_how_an_image_was_made_is_kept_longer_than_the_image(engine: RunningEngine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nCOPY word /\nRUN --mount=type=secret,id=token --network=none cat /run/secrets/token | wc -c\n"
    )
    (tmp_path / "word").write_text("hello")

    async def work() -> None:
        async with building(engine, tmp_path, {"token": SECRET}) as builder:
            answer = await builder.solve(
                Frontend="dockerfile.v0", FrontendAttrs={"build-arg:A": "b"}, Exporters=IMAGE
            )
            assert builder.output.strip() == str(len(SECRET))
            engine.docker("rmi", "built")
            (record,) = [each for each in await records(builder) if each.Ref == builder.ref]
            (told,) = record.Result.Attestations
            data = await read(builder, told.digest)
            assert (digest_of(data), len(data)) == (told.digest, told.size)
            made = json.loads(data)
            request = made["buildDefinition"]["externalParameters"]["request"]
            assert request["args"] == {"build-arg:A": "b"}
            assert request["secrets"] == [{"id": "token", "optional": True}]
            (base,) = made["buildDefinition"]["resolvedDependencies"]
            assert base["uri"] == "pkg:docker/busybox@latest?platform=linux%2Famd64"
            result = record.Result.Results[0]
            assert result.digest == answer["containerimage.digest"]
            manifest = json.loads(await read(builder, result.digest))
            config = json.loads(await read(builder, manifest["config"]["digest"]))
            assert config["os"] == "linux"

    run(work())


def test_blobs_are_read_in_parts_and_never_written(engine: RunningEngine, tmp_path: Path) -> None:
    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            await builder.solve(Definition=graph("echo made > /made"), Exporters=IMAGE)
            (record,) = [each for each in await records(builder) if each.Ref == builder.ref]
            trace = record.trace.digest
            info = await builder.client.call(CONTENT["Info"], content_pb2.InfoRequest(digest=trace))
            assert (info.info.digest, info.info.size) == (trace, record.trace.size)
            whole = await read(builder, trace)
            assert await read(builder, trace, 3, 5) == whole[3:8]
            assert await read(builder, trace, 3) == whole[3:]
            manifest = json.loads(await read(builder, record.Result.Results[0].digest))
            layer = manifest["layers"][0]
            assert digest_of(await read(builder, layer["digest"])) == layer["digest"]
            assert await read(builder, layer["digest"], 1, 2) == (await read(builder, layer["digest"]))[1:3]
            async with builder.client.stream(CONTENT["List"]) as stream:
                await stream.send_message(content_pb2.ListContentRequest(), end=True)
                listed = [each.digest async for message in stream for each in message.info]
            assert {trace, layer["digest"]} <= set(listed) and len(listed) == len(set(listed))
            await refused(builder, trace, layer["digest"], len(whole))

    async def refused(builder: Builder, trace: str, layer: str, size: int) -> None:
        for offset, length in ((size, 1), (-1, 2), (0, size + 1)):
            with pytest.raises(InvalidParameter, match="out of the range"):
                await read(builder, trace, offset, length)
        with pytest.raises(InvalidParameter):
            await read(builder, "../../etc/passwd")
        with pytest.raises(NotFound):
            await read(builder, "sha256:" + "0" * 64)
        with pytest.raises(NotSupported, match="read-only"):
            request = content_pb2.DeleteContentRequest(digest=layer)
            await builder.client.call(CONTENT["Delete"], request)
        with pytest.raises(NotSupported, match="read-only"):
            async with builder.client.stream(CONTENT["Write"]) as stream:
                await stream.send_message(content_pb2.WriteContentRequest(ref="x"), end=True)
                await stream.recv_message()
        assert await read(builder, layer, 0, 1)

    run(work())


def test_secrets_are_in_nothing_that_is_kept(
    make_engine: Callable[..., RunningEngine], tmp_path: Path
) -> None:
    """Neither as they are nor as JSON or base64 would have them."""
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN --mount=type=secret,id=token --mount=type=secret,id=token,env=T "
        '--network=none test "$(cat /run/secrets/token)" = "$T"\n'
    )
    running = make_engine()

    async def work() -> None:
        async with building(running, tmp_path, {"token": SECRET}) as builder:
            context = {"context:other": "https://me:correct-horse-battery-staple@host/it.git"}
            await builder.solve(Frontend="dockerfile.v0", FrontendAttrs=context, Exporters=IMAGE)
            (record,) = await records(builder)
            assert SECRET not in record.SerializeToString()
            async with builder.client.stream(CONTENT["List"]) as stream:
                await stream.send_message(content_pb2.ListContentRequest(), end=True)
                listed = [each.digest async for message in stream for each in message.info]
            assert record.Result.Attestations[0].digest in listed
            for digest in listed:
                data = await read(builder, digest)
                assert SECRET not in data
                assert b"Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZ" not in data

    run(work())
