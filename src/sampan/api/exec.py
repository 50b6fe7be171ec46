"""The routes of exec: further processes in running containers."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from sampan.api.call import Call
from sampan.api.containers import container_of
from sampan.api.responses import empty, json
from sampan.api.router import Router
from sampan.api.streams import stream_type
from sampan.containers import attach as attaching
from sampan.containers.execs import Exec
from sampan.engineapi.container import ExecConfig, ExecStart
from sampan.errors import SampanError, SystemFailure

router = Router()


@router.post("/containers/{name:any}/exec")
async def create(call: Call) -> web.StreamResponse:
    config = await call.body(ExecConfig)
    if call.version < (1, 42):
        config.console_size = None
    _detach_keys(config)
    exec = await call.engine.containers.execs.create(container_of(call), config, call.fields["name"])
    return json({"Id": exec.id}, 201)


@router.post("/exec/{id}/start")
async def start(call: Call) -> web.StreamResponse:
    execs = call.engine.containers.execs
    request = await call.body(ExecStart)
    exec = execs.get(call.fields["id"])
    console = None
    if call.version >= (1, 42) and request.console_size and any(request.console_size):
        console = (request.console_size[0], request.console_size[1])
    if request.detach:
        await execs.start(exec, attach=None, console=console)
        return empty(200)
    config = exec.config
    wanted = (config.attach_stdin, config.attach_stdout, config.attach_stderr)
    keys = _detach_keys(config)
    async with call.hijack(stream_type(call, tty=config.tty)) as client:
        try:
            started = await execs.start(exec, attach=wanted, console=console)
        except SampanError as error:
            # The connection is a stream by now, as dockerd has it: the client reads the error there, and the code from inspect.
            await client.write(_message(f"{error}\r\n".encode(), tty=config.tty))
            return call.hijacked()
        assert started.stream is not None
        try:
            detached = await attaching.converse(
                client, started.stream, stdin=config.attach_stdin, detach_keys=keys if config.tty else None
            )
        except ConnectionError:
            detached = False
        if detached:
            call.engine.containers.services.publish(exec.container, "exec_detach", {"execID": exec.id})
        elif not client.lost:
            # The CLI asks for the exit code as soon as the stream ends: it must be there by then.
            await _ended(exec)
    return call.hijacked()


def _message(text: bytes, *, tty: bool) -> bytes:
    """Text for the client's standard output, in a frame where output has frames."""
    return text if tty else bytes((1, 0, 0, 0)) + len(text).to_bytes(4, "big") + text


def _detach_keys(config: ExecConfig) -> bytes:
    """Raises `SystemFailure`, as dockerd does."""
    try:
        return attaching.parse_detach_keys(config.detach_keys)
    except ValueError:
        raise SystemFailure(f"Invalid escape keys ({config.detach_keys}) provided") from None


async def _ended(exec: Exec) -> None:
    try:
        async with asyncio.timeout(2):
            await exec.ended.wait()
    except TimeoutError:
        return  # it closed its output and goes on: nothing to wait for


@router.post("/exec/{id}/resize")
async def resize(call: Call) -> web.StreamResponse:
    execs = call.engine.containers.execs
    rows, columns = call.query.dimension("h", "height"), call.query.dimension("w", "width")
    await execs.resize(execs.get(call.fields["id"]), rows, columns)
    return empty(200)


@router.get("/exec/{id}/json")
async def inspect(call: Call) -> web.StreamResponse:
    return json(_document(call.engine.containers.execs.get(call.fields["id"])))


def _document(exec: Exec) -> dict[str, Any]:
    config = exec.config
    command = config.cmd or [""]
    return {
        "ID": exec.id,
        "Running": exec.running,
        "ExitCode": exec.exit_code,
        "ProcessConfig": {
            "tty": config.tty,
            "entrypoint": command[0],
            "arguments": command[1:],
            "privileged": config.privileged,
            **({"user": config.user} if config.user else {}),
        },
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": False,
        "ContainerID": exec.container.id,
        "DetachKeys": config.detach_keys,
        "Pid": exec.pid,
    }
