"""A client of the builder in Python that does what buildx does: a connection, a session on it, a build."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any

from running_engine import RunningEngine
from sampan.buildkit import sending, trees
from sampan.buildkit.protos import control_pb2, filesync_pb2, gateway_pb2, secrets_pb2
from sampan.errors import NotFound
from sampan.grpc.client import GrpcClient
from sampan.grpc.server import Caller, GrpcServer, Service
from sampan.grpc.tunnel import TunnelTransport
from sampan.llb import ops_pb2, state
from sampan.llb.execop import Command

CONTROL = control_pb2.DESCRIPTOR.services_by_name["Control"].methods_by_name
BRIDGE = gateway_pb2.DESCRIPTOR.services_by_name["LLBBridge"].methods_by_name
SECRETS = secrets_pb2.DESCRIPTOR.services_by_name["Secrets"]
FILES = filesync_pb2.DESCRIPTOR.services_by_name["FileSync"]


class Files:
    """Serves one directory under every name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def diff_copy(self, stream: Any) -> None:
        root = os.open(self._directory, os.O_RDONLY)
        try:
            await sending.send(stream, [trees.Files("", root)])
        finally:
            os.close(root)

    async def tar_stream(self, stream: Any) -> None:
        raise NotFound("tar")


class Secrets:
    """Serves secrets by id."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._secrets = secrets

    async def get_secret(
        self, request: secrets_pb2.GetSecretRequest, caller: Caller
    ) -> secrets_pb2.GetSecretResponse:
        if request.ID not in self._secrets:
            raise NotFound(request.ID)
        return secrets_pb2.GetSecretResponse(data=self._secrets[request.ID])


class Builder:
    """A connection, its session, and one build."""

    def __init__(self, client: GrpcClient, session: str) -> None:
        self.client = client
        self.session = session
        self.ref = secrets.token_hex(8)
        self.told = control_pb2.StatusResponse()

    async def solve(self, **request: Any) -> Mapping[str, str]:
        """`Control.Solve`, followed to its end."""
        sent = control_pb2.SolveRequest(Ref=self.ref, Session=self.session, **request)
        following = asyncio.create_task(self._follow())
        try:
            answer = await self.client.call(CONTROL["Solve"], sent)
        finally:
            await following
        return dict(answer.ExporterResponse)

    async def _follow(self) -> None:
        async with self.client.stream(CONTROL["Status"]) as stream:
            await stream.send_message(control_pb2.StatusRequest(Ref=self.ref), end=True)
            async for message in stream:
                self.told.MergeFrom(message)

    async def ask(self, method: str, request: Any) -> Any:
        """A frontend's request about the build."""
        metadata = [("buildkit-controlapi-buildid", self.ref)]
        async with self.client.stream(BRIDGE[method], metadata) as stream:
            await stream.send_message(request, end=True)
            return await stream.recv_message()

    @property
    def output(self) -> str:
        return b"".join(each.msg for each in self.told.logs).decode()


def building(
    engine: RunningEngine, directory: Path, keeps: Mapping[str, bytes] | None = None
) -> contextlib.AbstractAsyncContextManager[Builder]:
    """A client with a directory and secrets."""
    return building_at(engine.socket, Files(directory), keeps or {}, "test")


@contextlib.asynccontextmanager
async def building_at(
    socket_path: Path, files: Files, keeps: Mapping[str, bytes], shared_key: str
) -> AsyncIterator[Builder]:
    """A client of whatever listens there. What it sends is brought up to date with what came before with that key."""
    connected = socket.socket(socket.AF_UNIX)
    connected.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connected, str(socket_path))
    transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=connected)
    client = GrpcClient(transport)
    transport.set_protocol(client.protocol)
    server = GrpcServer([Service(FILES, files), Service(SECRETS, Secrets(keeps))])
    session = secrets.token_hex(8)
    headers = [
        ("x-docker-expose-session-uuid", session),
        ("x-docker-expose-session-sharedkey", shared_key),
        ("x-docker-expose-session-grpc-method", "/moby.filesync.v1.FileSync/DiffCopy"),
        ("x-docker-expose-session-grpc-method", "/moby.buildkit.secrets.v1.Secrets/GetSecret"),
    ]

    async def serve() -> None:
        async with client.stream(CONTROL["Session"], headers) as stream:
            await stream.send_request()
            tunnel = TunnelTransport(stream, lambda data: control_pb2.BytesMessage(data=data))  # type: ignore[arg-type]
            await tunnel.run(server.accept(tunnel))

    serving = asyncio.create_task(serve())
    try:
        yield Builder(client, session)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await server.close()
        client.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 50))


def graph(script: str) -> ops_pb2.Definition:
    base = state.image("docker.io/library/busybox:latest")
    return state.definition(base.run(Command(args=["/bin/sh", "-c", script])).root)
