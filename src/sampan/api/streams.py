"""The routes that carry a container's output and input: attach, logs, stats."""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

from sampan.api.call import MULTIPLEXED_STREAM, RAW_STREAM, Call
from sampan.api.containers import container_of
from sampan.api.responses import json
from sampan.api.router import Router
from sampan.containers import attach as attaching
from sampan.containers.container import Container
from sampan.containers.logs import LogRequest
from sampan.errors import InvalidParameter, SampanError

router = Router()


def stream_type(call: Call, *, tty: bool) -> str:
    """The content type of a process's output: since 1.42 it says whether there are frames in it."""
    return MULTIPLEXED_STREAM if not tty and call.version >= (1, 42) else RAW_STREAM


@router.post("/containers/{name:any}/attach")
async def attach(call: Call) -> web.StreamResponse:
    try:
        container, keys = _attachable(call)
    except SampanError as error:
        return await call.refuse_hijack(error)
    query, tty = call.query, container.record.config.tty
    stdin, stdout, stderr = (query.boolean(name) for name in ("stdin", "stdout", "stderr"))
    containers = call.engine.containers
    containers.services.publish(container, "attach")
    async with call.hijack(stream_type(call, tty=tty)) as client:
        try:
            if query.boolean("logs"):
                request = LogRequest(stdout=stdout, stderr=stderr)
                async for data in containers.logs.read(container, request):
                    await client.write(data)
            if query.boolean("stream"):
                await _converse(call, container, client, keys, (stdin, stdout, stderr))
        except ConnectionError:
            pass  # the client went away: nobody is left to tell
    return call.hijacked()


def _attachable(call: Call) -> tuple[Container, bytes]:
    """The container and the detach keys. Raises what keeps a client from attaching."""
    container = container_of(call)
    text = call.query.text("detachKeys")
    try:
        keys = attaching.parse_detach_keys(text)
    except ValueError:
        raise InvalidParameter(f"Invalid detach keys ({text}) provided") from None
    attaching.check_can_attach(container, call.fields["name"])
    return container, keys


async def _converse(
    call: Call,
    container: Container,
    client: attaching.ClientStream,
    keys: bytes,
    streams: tuple[bool, bool, bool],
) -> None:
    stdin, stdout, stderr = streams
    try:
        stream = await call.unless_lost(
            attaching.connect(container, stdin=stdin, stdout=stdout, stderr=stderr)
        )
    except asyncio.CancelledError:
        return  # removed before it was started, or the client left
    tty = container.record.config.tty
    if await attaching.converse(client, stream, stdin=stdin, detach_keys=keys if tty else None):
        call.engine.containers.services.publish(container, "detach")


@router.get("/containers/{name:any}/attach/ws")
async def attach_websocket(call: Call) -> web.StreamResponse:
    """The same over a WebSocket, with one binary message per piece."""
    query, (container, keys) = call.query, _attachable(call)
    socket = web.WebSocketResponse()
    await socket.prepare(call.request)
    client = _WebSocketClient(socket)
    streams = tuple(query.boolean(name) for name in ("stdin", "stdout", "stderr"))
    call.engine.containers.services.publish(container, "attach")
    await _converse(call, container, client, keys, (streams[0], streams[1], streams[2]))
    await socket.close()
    return socket


class _WebSocketClient:
    """A WebSocket in the form of an attach's client."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    @property
    def lost(self) -> bool:
        return self._socket.closed

    async def read(self) -> bytes:
        message = await self._socket.receive()
        if message.type == WSMsgType.TEXT:
            return str(message.data).encode()
        return bytes(message.data) if message.type == WSMsgType.BINARY else b""

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(data)

    def write_eof(self) -> None:
        """A WebSocket has no half-close."""


@router.get("/containers/{name:any}/logs")
async def logs(call: Call) -> web.StreamResponse:
    query = call.query
    stdout, stderr = query.boolean("stdout"), query.boolean("stderr")
    if not (stdout or stderr):
        raise InvalidParameter("must specify at least one of 'stdout' or 'stderr'")
    container = container_of(call)
    request = LogRequest(
        stdout=stdout,
        stderr=stderr,
        since=query.text("since"),
        until=query.text("until"),
        tail=query.text("tail", "all"),
        timestamps=query.boolean("timestamps"),
        details=query.boolean("details"),
        follow=query.boolean("follow"),
    )
    chunks = call.engine.containers.logs.read(container, request)
    async with call.stream(stream_type(call, tty=container.record.config.tty)) as stream:
        async for data in chunks:
            await stream.write(data)
    return stream.response


@router.get("/containers/{name:any}/stats")
async def stats(call: Call) -> web.StreamResponse:
    monitoring, container = call.engine.containers.monitoring, container_of(call)
    if not call.query.boolean("stream", True):
        one_shot = call.query.boolean("one-shot") and call.version >= (1, 41)
        return json(await monitoring.stats(container, one_shot=one_shot))
    async with call.stream() as stream:
        async for reading in monitoring.stats_stream(container):
            await stream.json(reading)
    return stream.response
