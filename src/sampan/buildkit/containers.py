"""A frontend's containers: mounts of its references, and processes on them.

The first process is the container's init, in whose namespaces the others run and with which they end. All is confined as a
build's own steps are, by the same code, and nothing that is written is kept.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from sampan.buildkit import trees
from sampan.containers.programs import FurtherProcess, Program, ProgramRequest
from sampan.errors import InvalidParameter, NotFound, SystemFailure
from sampan.linux.path import open_in_root
from sampan.llb import ops_pb2 as pb
from sampan.names.names import new_id
from sampan.oci import defaults
from sampan.ops.mounts import MountSet, check_mounts
from sampan.ops.reading import open_part
from sampan.ops.run import HOSTNAME, confinement, secret_variables

if TYPE_CHECKING:
    from sampan.buildkit.bridge import Bridge
    from sampan.buildkit.protos import gateway_pb2
    from sampan.oci.runtime import Mount
    from sampan.runtime.interface import AttachStream, ExitStatus
    from sampan.solver.interface import Tree

T = TypeVar("T")

STDIN = 0


class Handle(Protocol):
    """A process: of the shim itself, or of an exec in it."""

    async def wait(self) -> ExitStatus: ...
    async def kill(self, signal: int) -> None: ...
    async def resize(self, rows: int, columns: int) -> None: ...


class Running(NamedTuple):
    """A process that was started, and its streams."""

    handle: Handle
    stream: AttachStream


class FrontendContainer:
    """One `NewContainer`. `prepare` it, `start` processes in it, and `release` it however that went."""

    def __init__(
        self, bridge: Bridge, request: gateway_pb2.NewContainerRequest, inputs: Sequence[Tree]
    ) -> None:
        """`inputs`: what the request's mounts begin as, one for each. Raises `InvalidParameter`, `Forbidden`."""
        self.id = request.ContainerID
        self._bridge = bridge
        self._request = request
        self._inputs = inputs
        self._mounts = [_mount(each, number) for number, each in enumerate(request.Mounts)]
        check_mounts(self._mounts, len(inputs))
        for host in request.extraHosts:
            _check_address(host.IP)
        if request.Network == pb.HOST:
            bridge.job.need("network.host")
        self._stack = AsyncExitStack()
        self._set: MountSet | None = None
        self._root: list[Mount] = []
        self._others: list[Mount] = []
        self._program: Program | None = None
        self._starting = asyncio.Lock()
        self._released = False

    async def prepare(self) -> None:
        """Make the mounts ready. Raises `SampanError`; nothing is left then."""
        job = self._bridge.job
        run = job.solving.run
        directory = run.directory / new_id()
        try:
            await asyncio.to_thread(directory.mkdir, 0o700, True)
            self._stack.push_async_callback(asyncio.to_thread, shutil.rmtree, directory, True)
            made = MountSet(
                run.trees, run.caches, job.build.lease, job.build, self._inputs, directory, self._stack
            )
            self._root, self._others = await made.made(self._mounts)
            self._set = made
        except BaseException:
            await asyncio.shield(self.release())
            raise

    async def start(self, init: gateway_pb2.InitMessage) -> Running:
        """Start a process. Raises `StartFailure` when it cannot be executed, `SampanError`."""
        if not init.HasField("Meta") or not init.Meta.args:
            raise InvalidParameter("process meta is required")
        if init.Security == pb.INSECURE:
            self._bridge.job.need("security.insecure")
        env = await self._environment(init)
        async with self._starting:
            if self._released:
                raise InvalidParameter("container is closed")
            if self._program is None:
                return await self._start_init(init, env)
            further = FurtherProcess(
                args=list(init.Meta.args),
                env=env,
                cwd=init.Meta.cwd or "/",
                user=init.Meta.user,
                privileged=init.Security == pb.INSECURE,
                tty=init.Tty,
                open_stdin=STDIN in init.Fds,
            )
            handle, stream = await self._bridge.job.solving.run.programs.exec(self._program, further)
            return Running(handle, stream)

    async def release(self) -> None:
        """End its processes and take everything back. Idempotent."""
        self._released = True
        async with self._starting:
            await asyncio.shield(self._stack.aclose())

    async def look(self, index: int, look: Callable[[int], T]) -> T:
        """What a function (run in a thread) makes of a descriptor of a mount's root, as the mount is now.

        Raises `InvalidParameter`, `NotFound`.
        """
        if not 0 <= index < len(self._mounts):
            raise InvalidParameter(f"mount index {index} is out of bounds ({len(self._mounts)} available)")
        mount = self._mounts[index]
        async with self._starting:
            if self._released or self._set is None:
                raise InvalidParameter("container is closed")
            if self._program is not None:
                root = await asyncio.to_thread(_open_in_process, self._program.shim.init_pid, mount.dest)
                if root >= 0:
                    return await _looked(root, look)
            return await self._look_from_outside(mount, look)

    async def _look_from_outside(self, mount: pb.Mount, look: Callable[[int], T]) -> T:
        """While no process runs: what the container begins with, or what its processes have left."""
        if mount.mountType != pb.BIND:
            raise NotFound(f"mount {mount.dest} has no files unless the container runs")
        assert self._set is not None
        job, growth = self._bridge.job, self._set.writable.get(mount.dest)
        if self._program is None or growth is None:
            async with trees.opened(job.solving.trees, self._inputs[mount.input]) as root:
                part = await asyncio.to_thread(open_part, root, mount.selector)
        else:
            source = {"rootfs": await job.solving.trees.snapshots.mounts(growth.key)}
            async with trees.opened_source(source) as root:
                part = await asyncio.to_thread(open_part, root, mount.selector)
        return await _looked(part, look)

    async def _start_init(self, init: gateway_pb2.InitMessage, env: Sequence[str]) -> Running:
        request = ProgramRequest(
            args=list(init.Meta.args),
            env=env,
            cwd=init.Meta.cwd or "/",
            user=init.Meta.user,
            hostname=self._request.hostname or HOSTNAME,
            rootfs=self._root,
            mounts=self._others,
            host=confinement(
                self._bridge.job.build,
                self._request.Network,
                init.Security,
                self._mounts,
                self._request.extraHosts,
            ),
            tty=init.Tty,
            open_stdin=STDIN in init.Fds,
        )
        programs = self._bridge.job.solving.run.programs
        program = await self._stack.enter_async_context(programs.created(request))
        self._program = program
        stream = await program.shim.attach(stdin=request.open_stdin, stdout=True, stderr=True)
        try:
            await program.shim.start()
        except BaseException:
            await stream.close()
            raise
        return Running(program.shim, stream)

    async def _environment(self, init: gateway_pb2.InitMessage) -> list[str]:
        env = {name: value for name, _, value in (each.partition("=") for each in init.Meta.env)}
        env.setdefault("PATH", defaults.PATH)
        if init.Tty:
            env.setdefault("TERM", "xterm")
        env |= await secret_variables(init.secretenv, self._bridge.job.build)
        return [f"{name}={value}" for name, value in env.items()]


def _mount(given: pb.Mount, number: int) -> pb.Mount:
    """As a step's mount: what it begins as is the input of its number, and nothing of it is kept."""
    mount = pb.Mount()
    mount.CopyFrom(given)
    mount.resultID = ""
    mount.input, mount.output = number if given.resultID else -1, -1
    return mount


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise InvalidParameter(f"failed to parse IP {text}") from None


def _open_in_process(pid: int, place: str) -> int:
    """The mount at `place`, as the process sees it; -1 when there is no such process any more. Blocks."""
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        return open_in_root(root, place)
    except OSError as error:
        raise SystemFailure(f"open {place}: {error.strerror}") from None
    finally:
        os.close(root)


async def _looked(root: int, look: Callable[[int], T]) -> T:
    try:
        return await asyncio.to_thread(look, root)
    finally:
        os.close(root)
