"""Calls over connections that are open already: both roles, errors, ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from sampan.buildkit.protos import control_pb2 as pb
from sampan.buildkit.protos import filesync_pb2, ssh_pb2
from sampan.errors import (
    Conflict,
    Forbidden,
    InvalidParameter,
    NotFound,
    NotSupported,
    SampanError,
    Unavailable,
)
from sampan.grpc.client import GrpcClient
from sampan.grpc.server import Caller, GrpcServer, Service, snake_case
from sampan.grpc.tunnel import TunnelTransport

CONTROL = pb.DESCRIPTOR.services_by_name["Control"].methods_by_name
SSH = ssh_pb2.DESCRIPTOR.services_by_name["SSH"].methods_by_name


class Control:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.ended = asyncio.Event()
        self.entered = asyncio.Event()
        self.inner: GrpcServer | None = None

    async def info(self, request: pb.InfoRequest, caller: Caller) -> pb.InfoResponse:
        if self.error:
            raise self.error
        return pb.InfoResponse(buildkitVersion={"version": caller.metadata.get("who", "")})

    async def status(self, request: pb.StatusRequest, caller: Caller) -> AsyncIterator[pb.StatusResponse]:
        try:
            for number in range(3):
                yield pb.StatusResponse(vertexes=[pb.Vertex(name=f"{request.Ref}{number}")])
            self.entered.set()
            if request.Ref == "endless":
                await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def solve(self, request: pb.SolveRequest, caller: Caller) -> pb.SolveResponse:
        try:
            self.entered.set()
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        raise AssertionError

    async def session(self, stream: Any) -> None:
        tunnel = TunnelTransport(stream, lambda data: pb.BytesMessage(data=data))
        client = GrpcClient(tunnel)

        async def ask() -> None:
            answer = await client.call(SSH["CheckAgent"], ssh_pb2.CheckAgentRequest(ID="x"))
            assert answer is not None
            client.close()

        asking = asyncio.create_task(ask())
        await tunnel.run(client.protocol)
        await asking

    disk_usage = prune = list_workers = listen_build_history = update_build_history = info


class Agent:
    async def check_agent(
        self, request: ssh_pb2.CheckAgentRequest, caller: Caller
    ) -> ssh_pb2.CheckAgentResponse:
        if request.ID != "x":
            raise NotFound("no such agent")
        return ssh_pb2.CheckAgentResponse()

    async def forward_agent(self, stream: Any) -> None:
        """Echoes one message, and ends before the client does: trailers, then RST_STREAM NO_ERROR."""
        message = await stream.recv_message()
        await stream.send_message(message)


@contextlib.asynccontextmanager
async def connected(*services: Service) -> AsyncIterator[tuple[GrpcClient, GrpcServer]]:
    loop = asyncio.get_running_loop()
    server = GrpcServer(services)
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=ours)
    transport.set_protocol(server.accept(transport))
    transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=theirs)
    client = GrpcClient(transport)
    transport.set_protocol(client.protocol)
    try:
        yield client, server
    finally:
        client.close()
        await server.close()


def control(implementation: Control) -> Service:
    return Service(pb.DESCRIPTOR.services_by_name["Control"], implementation)


def agent() -> Service:
    return Service(ssh_pb2.DESCRIPTOR.services_by_name["SSH"], Agent())


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def test_names_of_methods() -> None:
    assert snake_case("GetTokenAuthority") == "get_token_authority"
    assert snake_case("DiskUsage") == "disk_usage"
    assert snake_case("LLBBridge") == "llb_bridge"


def test_a_service_that_lacks_a_method_is_refused() -> None:
    with pytest.raises(AttributeError, match="diff_copy"):
        Service(filesync_pb2.DESCRIPTOR.services_by_name["FileSync"], object())


def test_a_call_and_its_answer() -> None:
    async def work() -> None:
        async with connected(control(Control())) as (client, _):
            async with client.stream(CONTROL["Info"], [("who", "me")]) as stream:
                await stream.send_message(pb.InfoRequest(), end=True)
                answer = await stream.recv_message()
            assert answer is not None and answer.buildkitVersion.version == "me"

    run(work())


def test_a_stream_of_answers() -> None:
    async def work() -> None:
        async with (
            connected(control(Control())) as (client, _),
            client.stream(CONTROL["Status"]) as stream,
        ):
            await stream.send_message(pb.StatusRequest(Ref="r"), end=True)
            assert [each.vertexes[0].name async for each in stream] == ["r0", "r1", "r2"]

    run(work())


@pytest.mark.parametrize("kind", [InvalidParameter, NotFound, Forbidden, Conflict, NotSupported, Unavailable])
def test_errors_keep_their_kind_and_words(kind: type[SampanError]) -> None:
    async def work() -> None:
        implementation = Control()
        implementation.error = kind("ungültig: %25\n„so“")
        async with connected(control(implementation)) as (client, _):
            with pytest.raises(kind) as caught:
                await client.call(CONTROL["Info"], pb.InfoRequest())
            assert str(caught.value) == "ungültig: %25\n„so“"

    run(work())


def test_details_travel_with_an_error() -> None:
    async def work() -> None:
        implementation = Control()
        detail = AnyMessage(
            type_url="github.com/moby/buildkit/errdefs.Vertex+json", value=b'{"digest":"sha256:0"}' * 2000
        )
        implementation.error = GRPCError(Status.UNKNOWN, "failed", [detail])
        async with connected(control(implementation)) as (client, _):
            with pytest.raises(SampanError, match="failed") as caught:
                await client.call(CONTROL["Info"], pb.InfoRequest())
            cause = caught.value.__cause__
            assert isinstance(cause, GRPCError) and cause.details == [detail]

    run(work())


def test_an_unforeseen_error_is_named_and_the_connection_goes_on() -> None:
    async def work() -> None:
        implementation = Control()
        implementation.error = KeyError("surprise")
        async with connected(control(implementation)) as (client, _):
            with pytest.raises(SampanError, match="KeyError: 'surprise'"):
                await client.call(CONTROL["Info"], pb.InfoRequest())
            implementation.error = None
            await client.call(CONTROL["Info"], pb.InfoRequest())

    run(work())


@pytest.mark.parametrize("method", ["Solve", "Status"])
def test_a_call_ends_with_its_client(method: str) -> None:
    async def work() -> None:
        implementation = Control()
        async with connected(control(implementation)) as (client, _):
            request = pb.SolveRequest() if method == "Solve" else pb.StatusRequest(Ref="endless")
            async with client.stream(CONTROL[method]) as stream:
                await stream.send_message(request, end=True)
                await implementation.entered.wait()
                await stream.cancel()
            await implementation.ended.wait()

    run(work())


def test_a_call_ends_with_its_connection_and_later_ones_fail() -> None:
    async def work() -> None:
        implementation = Control()
        async with connected(control(implementation)) as (client, server):
            call = asyncio.create_task(client.call(CONTROL["Solve"], pb.SolveRequest()))
            await implementation.entered.wait()
            await server.close()
            assert implementation.ended.is_set()
            with pytest.raises(Unavailable):
                await call
            with pytest.raises(Unavailable):
                await client.call(CONTROL["Info"], pb.InfoRequest())
            await client.wait_lost()
            assert server.open_connections == 0

    run(work())


def test_a_server_that_ends_first_has_not_failed() -> None:
    async def work() -> None:
        async with (
            connected(agent()) as (client, _),
            client.stream(SSH["ForwardAgent"]) as stream,
        ):
            await stream.send_message(ssh_pb2.BytesMessage(data=b"hello"))
            answer = await stream.recv_message()
            assert answer is not None and answer.data == b"hello"
            assert await stream.recv_message() is None

    run(work())


def test_a_connection_within_a_call() -> None:
    """As `Control.Session` carries it: the caller serves inside, and is asked."""

    async def work() -> None:
        async with (
            connected(control(Control())) as (client, _),
            client.stream(CONTROL["Session"]) as stream,
        ):
            await stream.send_request()
            inner = GrpcServer([agent()])
            tunnel = TunnelTransport(stream, lambda data: pb.BytesMessage(data=data))  # type: ignore[arg-type]
            await tunnel.run(inner.accept(tunnel))
            await inner.close()

    run(work())


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff" * 64,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + (20000).to_bytes(3) + b"\xff" * 20006,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 4, 1, 4, 0, 0, 0, 1]) + b"\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_garbage_costs_its_sender_the_connection_only(garbage: bytes) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        problems: list[Any] = []
        loop.set_exception_handler(lambda _, context: problems.append(context))
        async with connected(control(Control())) as (client, server):
            ours, theirs = socket.socketpair()
            transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=ours)
            transport.set_protocol(server.accept(transport))
            reader, writer = await asyncio.open_unix_connection(sock=theirs)
            writer.write(garbage)
            await reader.read()
            writer.close()
            await client.call(CONTROL["Info"], pb.InfoRequest())
        assert problems == []

    run(work())
