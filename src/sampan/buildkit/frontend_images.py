"""Frontends that are images (`# syntax=IMAGE`, `gateway.v0`): run as a build's steps are, they speak LLBBridge on their standard
input and output, and know what they are asked from their environment, as BuildKit has it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from google.protobuf.any_pb2 import Any as AnyMessage
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from sampan.attestations.captures import ImageSource
from sampan.buildkit.bridge import Bridge
from sampan.containers.attach import frames
from sampan.containers.programs import ProgramRequest
from sampan.engineapi.container import HostConfig
from sampan.errors import InvalidParameter, NotSupported, SystemFailure
from sampan.grpc.tunnel import TunnelTransport
from sampan.llb.state import definition, image
from sampan.names import platform as platforms
from sampan.names.booleans import word_for
from sampan.names.names import new_id
from sampan.names.platform import Platform
from sampan.names.reference import parse_normalized
from sampan.oci.image import ContainerConfig
from sampan.ops.emulation import runnable
from sampan.ops.run import HOSTNAME
from sampan.solver.failures import ProgramFailed
from sampan.solver.steps import step

if TYPE_CHECKING:
    from sampan.buildkit.jobs import Job, Ref, Result
    from sampan.llb import ops_pb2
    from sampan.oci.runtime import Mount
    from sampan.runtime.interface import AttachStream, ExitStatus, Shim

log = logging.getLogger(__name__)

_CAPABILITIES = "moby.buildkit.frontend.caps"
_NO_NETWORK = "moby.buildkit.frontend.network.none"
_INPUTS = "moby.buildkit.frontend.inputs"
_METADATA = "/run/config/buildkit/metadata"
_SCHEME = "docker-image://"
_STDOUT, _STDERR = 1, 2
_LAST_WORDS = 4096
"""Bytes of a frontend's errors that the log is told when it fails."""
_PATIENCE = 5.0
"""Seconds for a frontend to end after the last word."""
_LONGEST_OPTIONS = 1 << 20
"""Bytes of all options together, which become the program's environment."""


class _Image(NamedTuple):
    ref: Ref
    config: ContainerConfig


async def run(job: Job, options: Mapping[str, str], inputs: Mapping[str, ops_pb2.Definition]) -> Result:
    """The result of the frontend that the option `source` names.

    Raises what the frontend gives as its error, `ProgramFailed` when it ends with another status than 0, `NotSupported` for one
    that cannot do what is asked, `SampanError`.
    """
    source = options.get("source", "")
    if not source:
        raise InvalidParameter("no source specified for gateway")
    found = await _image(job, source, options)
    _check_capabilities(found.config.labels or {}, options, inputs)
    tree = await found.ref.tree()
    bridge = Bridge(job, inputs)
    directory = job.solving.run.directory / new_id()
    try:
        await asyncio.to_thread(_write_metadata, directory, found.ref.definition.SerializeToString())
        trees, lease = job.solving.trees, job.build.lease
        async with trees.growing(tree, lease) as growth:
            request = ProgramRequest(
                args=list(found.config.entrypoint or ["/run"]),
                env=_environment(job, found.config, options, await asyncio.to_thread(runnable)),
                cwd=found.config.working_dir or "/",
                user="",
                hostname=HOSTNAME,
                rootfs=await trees.snapshots.mounts(growth.key),
                mounts=[_metadata_mount(directory)],
                host=_host_config(job, found.config.labels or {}),
                open_stdin=True,
            )
            status = await _converse(bridge, request)
        return _outcome(bridge, request, status)
    finally:
        await asyncio.shield(_close(bridge, directory))


async def _close(bridge: Bridge, directory: Path) -> None:
    try:
        await bridge.close()
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, True)


async def _image(job: Job, source: str, options: Mapping[str, str]) -> _Image:
    """The frontend's image as a file system of the build; a named context of that name takes its place."""
    name = source
    replaced = options.get(f"context:{source}", "")
    if replaced:
        if not replaced.startswith(_SCHEME):
            raise NotSupported(f"a frontend from {replaced} is not in this version of Sampan's builder")
        name = replaced.removeprefix(_SCHEME)
    full = str(parse_normalized(name).with_default_tag())
    reference = parse_normalized(await job.policies.image(full, job.solving.trees))
    async with step(job.build, f"resolve image config for {_SCHEME}{reference}"):
        found = await job.solving.operations.finder.find(str(reference), platforms.local(), job.build)
    job.images.append(ImageSource(str(reference), platforms.local(), found.target.digest))
    pinned = reference if reference.digest else reference._replace(digest=found.target.digest)
    ref = await job.make(definition(image(str(pinned))))
    return _Image(ref, found.config.config or ContainerConfig())


def _check_capabilities(
    labels: Mapping[str, str], options: Mapping[str, str], inputs: Mapping[str, ops_pb2.Definition]
) -> None:
    wanted = capabilities_of(options.get("frontend.caps", ""))
    if inputs:
        wanted.add(_INPUTS)
    for name in sorted(wanted - capabilities_of(labels.get(_CAPABILITIES, ""))):
        raise unsupported(name)


def capabilities_of(text: str) -> set[str]:
    """Names in a list with commas; what follows a plus says how they are wanted."""
    return {name for each in text.split(",") if (name := each.partition("+")[0])}


def unsupported(name: str) -> GRPCError:
    """The error for a capability that a frontend does not have, in the form that clients know it by."""
    detail = AnyMessage(
        type_url="github.com/moby/buildkit/errdefs.FrontendCap+json",
        value=msgspec.json.encode({"name": name}),
    )
    return GRPCError(Status.UNIMPLEMENTED, f"unsupported frontend capability {name}", [detail])


def _environment(
    job: Job, config: ContainerConfig, options: Mapping[str, str], here: Sequence[Platform]
) -> list[str]:
    """What BuildKit tells a frontend in this way."""
    if sum(len(name) + len(value) for name, value in options.items()) > _LONGEST_OPTIONS:
        raise InvalidParameter("the options of the frontend are too long")
    described = [
        {
            "architecture": each.architecture,
            "os": each.os,
            **({"variant": each.variant} if each.variant else {}),
        }
        for each in here
    ]
    return [
        *(config.env or ()),
        *(
            f"BUILDKIT_FRONTEND_OPT_{number}={name}={value}"
            for number, (name, value) in enumerate(options.items())
        ),
        f"BUILDKIT_SESSION_ID={job.session.id if job.session is not None else ''}",
        "BUILDKIT_WORKERS="
        + msgspec.json.encode([{"id": job.engine_id, "labels": {}, "platforms": described}]).decode(),
        "BUILDKIT_EXPORTEDPRODUCT=",
    ]


def _host_config(job: Job, labels: Mapping[str, str]) -> HostConfig:
    host: HostConfig = job.build.settings.get("host_config", HostConfig)()
    if word_for(labels.get(_NO_NETWORK, "")):
        host.network_mode = "none"
    return host


def _write_metadata(directory: Path, data: bytes) -> None:
    """The definition of the frontend itself."""
    (directory / "metadata").mkdir(0o755, parents=True)
    directory.chmod(0o700)
    file = directory / "metadata" / "frontend.bin"
    file.write_bytes(data)
    file.chmod(0o400)


def _metadata_mount(directory: Path) -> Mount:
    return {
        "destination": _METADATA,
        "type": "bind",
        "source": str(directory / "metadata"),
        "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
    }


async def _converse(bridge: Bridge, request: ProgramRequest) -> ExitStatus:
    """Run it, and answer what it asks until it ends."""
    job = bridge.job
    async with job.solving.run.programs.created(request) as program:
        stream = await program.shim.attach(stdin=True, stdout=True, stderr=True)
        spoken = _Spoken(stream)
        server = job.serve(bridge)
        tunnel = TunnelTransport(spoken, lambda data: _Piece(data))
        serving = asyncio.create_task(tunnel.run(server.accept(tunnel)))
        try:
            await program.shim.start()
            status = await _ended(program.shim, serving, spoken)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await server.close()
            await stream.close()
        if status.code:
            level = logging.DEBUG if bridge.returned.done() else logging.WARNING
            words = spoken.last_words.decode(errors="replace")
            log.log(level, "frontend %s ended with %d: %s", request.args, status.code, words)
        return status


async def _ended(shim: Shim, serving: asyncio.Task[None], spoken: _Spoken) -> ExitStatus:
    """The program's end. One that has ended the conversation is waited for a little; one that speaks something else is not.

    Raises `SystemFailure` for one that has to be ended.
    """
    waiting = asyncio.create_task(shim.wait())
    try:
        await asyncio.wait((waiting, serving), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            await asyncio.wait((waiting,), timeout=_PATIENCE if spoken.ended else 0)
        if not waiting.done():
            raise SystemFailure("frontend grpc server closed unexpectedly")
        return waiting.result()
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


def _outcome(bridge: Bridge, request: ProgramRequest, status: ExitStatus) -> Result:
    """An error that it gave counts more than its status, and that more than a result."""
    given = bridge.returned
    if given.done() and (error := given.exception()) is not None:
        raise error
    if status.code:
        raise ProgramFailed(list(request.args), status.code)
    if not given.done():
        raise SystemFailure("no result for incomplete build")
    return given.result()


class _Piece(NamedTuple):
    data: bytes


class _Spoken:
    """A program's standard streams, as what a tunnel's bytes go through. What it writes to its errors is kept for the log."""

    def __init__(self, stream: AttachStream) -> None:
        self._stream = stream
        self._frames = frames(stream)
        self.last_words = b""
        self.ended = False
        """Whether it has closed its output."""

    async def send_message(self, piece: _Piece) -> None:
        await self._stream.write(piece.data)

    async def recv_message(self) -> _Piece | None:
        async for number, data in self._frames:
            if number & 3 == _STDOUT:
                return _Piece(data)
            self.last_words = (self.last_words + data)[-_LAST_WORDS:]
        self.ended = True
        return None
