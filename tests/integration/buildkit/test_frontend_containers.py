"""Containers of a frontend: `NewContainer` and the conversation of `ExecProcess`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from grpclib.exceptions import GRPCError

from buildkit_client import BRIDGE, Builder, building, graph, run
from running_engine import RunningEngine
from sampan.buildkit.protos import errdefs_pb2, gateway_pb2
from sampan.errors import Forbidden, InvalidParameter, NotFound, SampanError, Unavailable
from sampan.llb import ops_pb2 as pb

pytestmark = pytest.mark.root

ROOT = "root"


class Frontend:
    """A frontend at the client, whose solve waits for it."""

    def __init__(self, builder: Builder, stream: Any) -> None:
        self.builder = builder
        self._stream = stream
        self._told: dict[str, list[gateway_pb2.ExecMessage]] = {}

    async def solved(self, script: str) -> str:
        """The reference of what a script leaves in busybox."""
        request = gateway_pb2.SolveRequest(
            Definition=graph(script), allowResultReturn=True, allowResultArrayRef=True
        )
        return str((await self.builder.ask("Solve", request)).result.ref.id)

    async def container(self, *mounts: pb.Mount, **request: Any) -> str:
        """A new container."""
        id = os.urandom(4).hex()
        asked = gateway_pb2.NewContainerRequest(ContainerID=id, Mounts=mounts, **request)
        await self.builder.ask("NewContainer", asked)
        return id

    async def say(self, process: str, **what: Any) -> None:
        await self._stream.send_message(gateway_pb2.ExecMessage(ProcessID=process, **what))

    async def begin(self, container: str, process: str, *args: str, **init: Any) -> None:
        """Announce a process, and see that it has started."""
        meta = pb.Meta(args=args, env=init.pop("env", []), cwd=init.pop("cwd", ""), user=init.pop("user", ""))
        fds = init.pop("fds", [1, 2])
        await self.say(
            process, Init=gateway_pb2.InitMessage(ContainerID=container, Meta=meta, Fds=fds, **init)
        )
        assert (await self.next(process)).HasField("Started")

    async def next(self, process: str) -> gateway_pb2.ExecMessage:
        """What is told of a process next."""
        while not self._told.get(process):
            message = await self._stream.recv_message()
            assert message is not None, "the conversation has ended"
            self._told.setdefault(message.ProcessID, []).append(message)
        return self._told[process].pop(0)

    async def until(self, process: str, word: str) -> str:
        """Output up to a word."""
        said = ""
        while word not in said:
            said += (await self.next(process)).File.Data.decode()
        return said

    async def end(self, process: str) -> tuple[int, str, str, str]:
        """Exit code, output, error output, and the error that goes with the code."""
        output = {1: "", 2: ""}
        code, error = -1, ""
        while True:
            message = await self.next(process)
            match message.WhichOneof("Input"):
                case "File":
                    assert code == -1
                    output[message.File.Fd] += message.File.Data.decode()
                case "Exit":
                    code, error = message.Exit.Code, message.Exit.Error.message
                case "Done":
                    return code, output[1], output[2], error

    async def ran(self, container: str, *args: str, **init: Any) -> tuple[int, str, str, str]:
        """A process from its beginning to its end."""
        id = os.urandom(4).hex()
        await self.begin(container, id, *args, **init)
        return await self.end(id)


@asynccontextmanager
async def frontend(engine: RunningEngine, tmp_path: Path, **solve: Any) -> AsyncIterator[Frontend]:
    async with building(engine, tmp_path) as builder:
        solving = asyncio.create_task(builder.solve(**solve))
        metadata = [("buildkit-controlapi-buildid", builder.ref)]
        try:
            async with builder.client.stream(BRIDGE["ExecProcess"], metadata) as stream:
                await stream.send_request()
                yield Frontend(builder, stream)
                result = gateway_pb2.Result(ref=gateway_pb2.Ref())
                await builder.ask("Return", gateway_pb2.ReturnRequest(result=result))
                await solving
        finally:
            solving.cancel()
            await asyncio.gather(solving, return_exceptions=True)


def root(ref: str, **more: Any) -> pb.Mount:
    return pb.Mount(dest="/", resultID=ref, **more)


def programs(engine: RunningEngine) -> list[str]:
    """What is left of programs that are no containers."""
    return [str(each) for name in ("programs", "builds") for each in (engine.exec_root / name).glob("*")]


def test_processes_talk_on_the_references_mounts(engine: RunningEngine, tmp_path: Path) -> None:
    async def work() -> None:
        async with frontend(engine, tmp_path) as asked:
            ref, other = await asked.solved("echo made > /made"), await asked.solved("echo o > /o")
            bind = pb.Mount(dest="/mnt/other", resultID=other, readonly=True)
            part = pb.Mount(dest="/word", resultID=other, selector="/o", readonly=True)
            cache = pb.Mount(dest="/kept", mountType=pb.CACHE, cacheOpt=pb.CacheOpt(ID="frontend"))
            memory = pb.Mount(dest="/memory", mountType=pb.TMPFS)
            id = await asked.container(
                root(ref), bind, part, cache, memory, hostname="named",
                extraHosts=[pb.HostIP(Host="friend", IP="10.9.8.7")],
            )  # fmt: skip
            await asked.begin(id, "init", "cat", fds=[0, 1, 2])
            await asked.say("init", File=gateway_pb2.FdMessage(Fd=0, Data=b"hello "))
            assert await asked.until("init", "hello ") == "hello "
            script = (
                "cat /made /mnt/other/o /word; hostname; grep -c 10.9.8.7.*friend /etc/hosts; grep -c '/memory tmpfs' /proc/mounts;"
                "echo $A; id -u; pwd; touch /mnt/other/x || touch /written /kept/k; exit 7"
            )
            code, out, errors, said = await asked.ran(
                id, "sh", "-c", script, env=["A=b"], user="12:34", cwd="/tmp"
            )
            assert out.split() == ["made", "o", "o", "named", "1", "1", "b", "12", "/tmp"]
            assert (code, said) == (7, "exit code: 7") and "Read-only file system" in errors
            assert (await asked.ran(id, "touch", "/written"))[0] == 0
            await asked.say("init", File=gateway_pb2.FdMessage(Fd=0, EOF=True))
            assert await asked.end("init") == (0, "", "", "")
            await asked.builder.ask("ReleaseContainer", gateway_pb2.ReleaseContainerRequest(ContainerID=id))
            with pytest.raises(NotFound):
                await asked.builder.ask(
                    "ReleaseContainer", gateway_pb2.ReleaseContainerRequest(ContainerID=id)
                )
            assert programs(engine) == []
            # What was written is nobody's: another container on the same reference has none of it.
            again = await asked.container(root(ref))
            assert (await asked.ran(again, "test", "-e", "/written"))[0] == 1

    run(work())
    assert programs(engine) == []


def test_a_terminal_signals_and_what_cannot_run(engine: RunningEngine, tmp_path: Path) -> None:
    async def work() -> None:
        async with frontend(engine, tmp_path) as asked:
            id = await asked.container(root(await asked.solved("true")), Network=pb.NONE)
            script = "trap 'stty size; exit 3' USR1; tty; echo $TERM; while :; do sleep 0.05; done"
            await asked.begin(id, "t", "sh", "-c", script, Tty=True, fds=[0, 1])
            await asked.until("t", "xterm")
            await asked.say("t", Resize=gateway_pb2.ResizeMessage(Rows=33, Cols=44))
            await asked.say("t", Signal=gateway_pb2.SignalMessage(Name="SIGUSR1"))
            assert await asked.end("t") == (3, "33 44\r\n", "", "exit code: 3")
            lone = await asked.container(root(await asked.solved("true")))
            code, _, _, said = await asked.ran(lone, "/no/such/program")
            assert code == 127 and "/no/such/program" in said
            with pytest.raises(Forbidden, match=r"network\.host is not allowed"):
                await asked.container(root(""), Network=pb.HOST)
            with pytest.raises(InvalidParameter, match="no rootfs"):
                await asked.container(pb.Mount(dest="/x"))
            with pytest.raises(NotFound, match="no such ref"):
                await asked.container(root("0" * 64))
            third = await asked.container(root(await asked.solved("true")))
            code, _, _, said = await asked.ran(third, "true", Security=pb.INSECURE)
            assert code == 255 and "security.insecure is not allowed" in said

    run(work())


def test_files_of_a_container_are_those_of_its_processes(engine: RunningEngine, tmp_path: Path) -> None:
    async def work() -> None:
        async with frontend(engine, tmp_path) as asked:
            ref = await asked.solved("echo made > /made; ln -s /etc/passwd /link")
            id = await asked.container(root(ref), pb.Mount(dest="/m", mountType=pb.TMPFS))

            async def read(path: str, index: int = 0) -> bytes:
                request = gateway_pb2.ReadFileRequest(Ref=id, FilePath=path, MountIndex=index)
                return bytes((await asked.builder.ask("ReadFileContainer", request)).Data)

            assert await read("/made") == b"made\n"
            await asked.begin(
                id, "init", "sh", "-c", "echo w > /w; echo t > /m/t; echo ready; exec cat", fds=[0, 1]
            )
            await asked.until("init", "ready")
            assert (await read("/w"), await read("t", 1)) == (b"w\n", b"t\n")
            assert await read("/link") == await read("/etc/passwd") != Path("/etc/passwd").read_bytes()
            stat = gateway_pb2.StatFileRequest(Ref=id, Path="/link")
            assert (await asked.builder.ask("StatFileContainer", stat)).stat.linkname == "/etc/passwd"
            listed = gateway_pb2.ReadDirRequest(Ref=id, DirPath="/", MountIndex=1)
            entries = (await asked.builder.ask("ReadDirContainer", listed)).entries
            assert [each.path for each in entries] == ["t"]
            await asked.say("init", Signal=gateway_pb2.SignalMessage(Name="KILL"))
            assert (await asked.end("init"))[0] == 137
            assert await read("/w") == b"w\n"
            with pytest.raises(InvalidParameter, match="out of bounds"):
                await read("/w", 9)

    run(work())


def test_a_step_that_failed_can_be_looked_into(engine: RunningEngine, tmp_path: Path) -> None:
    """What `buildx debug` does: a container on what the program left behind."""

    async def work() -> None:
        async with frontend(engine, tmp_path) as asked:
            ref = await asked.solved("echo left > /left; exit 9")
            with pytest.raises(SampanError) as caught:
                await asked.builder.ask("Evaluate", gateway_pb2.EvaluateRequest(Ref=ref))
            assert isinstance(caught.value.__cause__, GRPCError)
            (detail,) = [each for each in caught.value.__cause__.details if "Solve" in each.type_url]
            told = Parse(detail.value, errdefs_pb2.Solve())
            assert list(told.op.exec.meta.args)[-1] == "echo left > /left; exit 9"
            after = await asked.container(root(told.mountIDs[0]))
            assert (await asked.ran(after, "cat", "/left"))[:2] == (0, "left\n")
            before = await asked.container(root(told.inputIDs[0]))
            assert (await asked.ran(before, "test", "-e", "/left"))[0] == 1

    run(work())


def test_an_engine_that_is_killed_leaves_no_container_of_a_frontend(
    engine: RunningEngine, tmp_path: Path
) -> None:
    begun: list[str] = []

    async def work() -> None:
        async with frontend(engine, tmp_path) as asked:
            id = await asked.container(root(await asked.solved("true")))
            await asked.begin(id, "init", "sleep", "600")
            begun.extend(programs(engine))
            engine.kill()

    with pytest.raises(Unavailable):
        run(work())
    assert len(begun) == 2
    engine.start()
    assert programs(engine) == []
