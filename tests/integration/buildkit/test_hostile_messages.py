"""What a client or a frontend may send and must not achieve anything with: errors, promptly, and an engine that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit_client import BRIDGE, building, graph, run
from running_engine import RunningEngine
from sampan.buildkit.protos import gateway_pb2
from sampan.errors import SampanError
from sampan.llb import ops_pb2 as pb
from sampan.llb.graph import digest_of

pytestmark = pytest.mark.root

BUSYBOX = "docker-image://docker.io/library/busybox:latest"


def of(*ops: pb.Op, last: str = "") -> pb.Definition:
    """A definition of these, the last of which is asked for."""
    data = [op.SerializeToString(deterministic=True) for op in ops]
    wanted = pb.Op(inputs=[pb.Input(digest=last or digest_of(data[-1]))])
    return pb.Definition(ops=[*data, wanted.SerializeToString()])


def chain(length: int) -> pb.Definition:
    """So many operations, each on the one before."""
    ops = [pb.Op(source=pb.SourceOp(identifier=BUSYBOX))]
    digest = digest_of(ops[0].SerializeToString(deterministic=True))
    for number in range(length):
        op = pb.Op(
            inputs=[pb.Input(digest=digest)], passthrough=pb.PassthroughOp(id=str(number), outputs=[0])
        )
        digest = digest_of(op.SerializeToString(deterministic=True))
        ops.append(op)
    return of(*ops)


def running(*mounts: pb.Mount, args: tuple[str, ...] = ("true",)) -> pb.Definition:
    source = pb.Op(source=pb.SourceOp(identifier=BUSYBOX))
    program = pb.Op(
        inputs=[pb.Input(digest=digest_of(source.SerializeToString(deterministic=True)))] if mounts else [],
        exec=pb.ExecOp(meta=pb.Meta(args=args), mounts=mounts),
    )
    return of(source, program)


def root(**more: object) -> pb.Mount:
    return pb.Mount(dest="/", output=0, **more)  # type: ignore[arg-type]


DEFINITIONS: dict[str, tuple[Callable[[], pb.Definition], str]] = {
    "no operation": (lambda: pb.Definition(ops=[b"\xff\xff"]), "failed to parse llb proto op"),
    "an edge to nowhere": (lambda: of(last="sha256:" + "0" * 64), "invalid missing input digest"),
    "a digest that is another's": (
        lambda: of(pb.Op(source=pb.SourceOp(identifier=BUSYBOX)), last="sha256:" + "1" * 64),
        "invalid missing input digest",
    ),
    "too many": (lambda: chain(100_000), "more than 20000 vertices"),
    "no scheme": (lambda: of(pb.Op(source=pb.SourceOp(identifier="x"))), "no scheme"),
    "an unknown scheme": (lambda: of(pb.Op(source=pb.SourceOp(identifier="ftp://x"))), "ftp"),
    "no root": (lambda: running(pb.Mount(dest="/x", output=0)), "no rootfs"),
    "two roots": (lambda: running(root(), root(input=0)), "no rootfs"),
    "a root by another name": (
        lambda: running(root(), pb.Mount(dest="/x/..", output=-1)),
        "that is the root",
    ),
    "a relative place": (
        lambda: running(root(), pb.Mount(dest="../x", output=-1)),
        "invalid mount destination",
    ),
    "an input that is not there": (
        lambda: running(root(), pb.Mount(dest="/x", input=7)),
        "invalid mountinput",
    ),
    "a secret as root": (lambda: running(root(mountType=pb.SECRET)), "invalid mount type SECRET for /"),
    "nothing to run": (lambda: running(root(), args=()), "no args"),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_definitions_that_make_no_sense(engine: RunningEngine, tmp_path: Path, name: str) -> None:
    make, said = DEFINITIONS[name]

    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            with pytest.raises(SampanError, match=said):
                await builder.solve(Definition=make())

    run(work())


def test_a_deep_graph_is_built(engine: RunningEngine, tmp_path: Path) -> None:
    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            await builder.solve(Definition=chain(2_000))

    run(work())


ESCAPES = ("/../../../../../etc/passwd", "/../etc/passwd", "/link/passwd")


@pytest.mark.parametrize("path", ESCAPES)
def test_paths_lead_nowhere_else(engine: RunningEngine, tmp_path: Path, path: str) -> None:
    """What is read of a reference, copied, mounted, or looked at in a container is beneath its root."""
    ours = Path("/etc/passwd").read_bytes()
    (tmp_path / "link").symlink_to("/etc")

    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            solving = asyncio.create_task(builder.solve())
            request = gateway_pb2.SolveRequest(
                Definition=graph("ln -s ../../../../../etc /link; echo inside > /etc/passwd"),
                allowResultReturn=True,
                allowResultArrayRef=True,
            )
            ref = (await builder.ask("Solve", request)).result.ref.id
            read = await builder.ask("ReadFile", gateway_pb2.ReadFileRequest(Ref=ref, FilePath=path))
            assert read.Data == b"inside\n" != ours
            mounts = [pb.Mount(dest="/", resultID=ref), pb.Mount(dest="/m", resultID=ref, selector=path)]
            made = gateway_pb2.NewContainerRequest(ContainerID="c", Mounts=mounts)
            await builder.ask("NewContainer", made)
            for index, name in ((0, path), (1, ".")):
                asked = gateway_pb2.ReadFileRequest(Ref="c", FilePath=name, MountIndex=index)
                if index:
                    with pytest.raises(SampanError):
                        await builder.ask("ReadFileContainer", asked)
                else:
                    assert (await builder.ask("ReadFileContainer", asked)).Data == b"inside\n"
            await builder.ask("Return", gateway_pb2.ReturnRequest(result=gateway_pb2.Result()))
            await solving

    run(work())


def left(engine: RunningEngine) -> list[str]:
    return [str(each) for name in ("programs", "builds") for each in (engine.exec_root / name).glob("*")]


@pytest.fixture
def nothing_is_left(engine: RunningEngine) -> Iterator[None]:
    yield
    assert left(engine) == []


@pytest.mark.usefixtures("nothing_is_left")
def test_a_client_that_vanishes_ends_its_solve_and_containers(engine: RunningEngine, tmp_path: Path) -> None:
    """Without a word: the connection is cut while a step and a frontend's process run."""

    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            solving = asyncio.create_task(builder.solve())
            ref = gateway_pb2.SolveRequest(
                Definition=graph("true"), allowResultReturn=True, allowResultArrayRef=True
            )
            id = (await builder.ask("Solve", ref)).result.ref.id
            await builder.ask(
                "NewContainer",
                gateway_pb2.NewContainerRequest(
                    ContainerID="c", Mounts=[pb.Mount(dest="/", resultID=id)], Network=pb.NONE
                ),
            )
            metadata = [("buildkit-controlapi-buildid", builder.ref)]
            async with builder.client.stream(BRIDGE["ExecProcess"], metadata) as stream:
                await stream.send_message(
                    gateway_pb2.ExecMessage(
                        ProcessID="p",
                        Init=gateway_pb2.InitMessage(ContainerID="c", Meta=pb.Meta(args=["sleep", "600"])),
                    )
                )
                assert (await stream.recv_message()).HasField("Started")
                slow = gateway_pb2.SolveRequest(
                    Definition=graph("echo begun; sleep 601"), allowResultReturn=True, Evaluate=True
                )
                stepping = asyncio.create_task(builder.ask("Solve", slow))
                while "begun" not in builder.output:
                    await asyncio.sleep(0.02)
                assert len(left(engine)) == 4
                builder.client.close()
                await asyncio.gather(solving, stepping, return_exceptions=True)
                while left(engine):
                    await asyncio.sleep(0.02)

    run(work())


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("script", ["head -c 3000000 /dev/urandom", "exec sleep 600", "exit 3", "yes"])
def test_frontends_that_do_not_speak_the_protocol(engine: RunningEngine, tmp_path: Path, script: str) -> None:
    (tmp_path / "Dockerfile").write_text(f'FROM busybox\nENTRYPOINT ["sh", "-c", "{script}"]\n')
    engine.docker("build", "-t", "odd/frontend", str(tmp_path))
    options = {"source": "odd/frontend"}

    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            solving = asyncio.create_task(builder.solve(Frontend="gateway.v0", FrontendAttrs=options))
            if script == "exec sleep 600":
                while not left(engine):
                    await asyncio.sleep(0.02)
                solving.cancel()
                await asyncio.gather(solving, return_exceptions=True)
                while left(engine):
                    await asyncio.sleep(0.02)
                return
            with pytest.raises(SampanError):
                await solving

    run(work())


def test_conversations_that_make_no_sense(engine: RunningEngine, tmp_path: Path) -> None:
    messages = [
        gateway_pb2.ExecMessage(),
        gateway_pb2.ExecMessage(ProcessID="p", File=gateway_pb2.FdMessage(Data=b"x")),
        gateway_pb2.ExecMessage(ProcessID="p", Init=gateway_pb2.InitMessage(ContainerID="no")),
        gateway_pb2.ExecMessage(
            ProcessID="p", Init=gateway_pb2.InitMessage(ContainerID="no", Meta=pb.Meta(args=["x"]))
        ),
        gateway_pb2.ExecMessage(ProcessID="p", Signal=gateway_pb2.SignalMessage(Name="KILL")),
    ]

    async def work() -> None:
        async with building(engine, tmp_path) as builder:
            solving = asyncio.create_task(builder.solve())
            for message in messages:
                metadata = [("buildkit-controlapi-buildid", builder.ref)]
                with pytest.raises(SampanError):
                    async with builder.client.stream(BRIDGE["ExecProcess"], metadata) as stream:
                        await stream.send_message(message)
                        await stream.recv_message()
            await builder.ask("Return", gateway_pb2.ReturnRequest(result=gateway_pb2.Result()))
            with pytest.raises(SampanError):
                await builder.ask("Return", gateway_pb2.ReturnRequest())
            await solving

    run(work())
