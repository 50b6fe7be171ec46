"""The front door, over real sockets: HTTP, hijacked streams in both directions, and the HTTP/2 preface."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from sampan.api import buildkit
from sampan.api.call import MULTIPLEXED_STREAM, Call
from sampan.api.frontdoor import HTTP2_PREFACE
from sampan.api.responses import json as json_response
from sampan.api.router import Router
from sampan.api.server import ApiServer
from sampan.errors import Conflict, NotModified

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
router = Router()
router.merge(buildkit.router)
seen: dict[str, Any] = {}


@router.get("/hello/{name:any}/json")
async def hello(call: Call) -> web.StreamResponse:
    return json_response({"name": call.fields["name"], "version": call.version})


@router.post("/echo")
async def echo(call: Call) -> web.StreamResponse:
    """Everything that comes is sent back, in capitals, until the client has no more; then a farewell."""
    async with call.hijack(MULTIPLEXED_STREAM) as stream:
        while data := await stream.read():
            await stream.write(data.upper())
        await stream.write(b"bye")
    return call.hijacked()


@router.post("/flood")
async def flood(call: Call) -> web.StreamResponse:
    async with call.hijack() as stream:
        for number in range(64):
            await stream.write(bytes([number]) * 65536)
            seen["written"] = number + 1
    return call.hijacked()


@router.get("/stream")
async def stream(call: Call) -> web.StreamResponse:
    async with call.stream() as out:
        seen["streaming"].set()
        try:
            await asyncio.Event().wait()
        finally:
            seen["ended"].set()
    return out.response


@router.get("/conflict")
async def conflict(call: Call) -> web.StreamResponse:
    raise Conflict("already there")


@router.get("/unchanged")
async def unchanged(call: Call) -> web.StreamResponse:
    raise NotModified("nothing to do")


@router.get("/broken")
async def broken(call: Call) -> web.StreamResponse:
    raise KeyError("surprise")


class Grpc(asyncio.Protocol):
    """Stands for the builder's server: says what it got."""

    def __init__(self, transport: asyncio.Transport, received: bytes) -> None:
        self.transport = transport
        transport.write(b"h2:" + received[-3:])

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Doors:
    """Stands for the builder's doors."""

    open_connections = 0

    def __init__(self) -> None:
        self.headers: dict[str, list[str]] = {}

    def __call__(self, transport: asyncio.Transport, received: bytes) -> asyncio.Protocol:
        return Grpc(transport, received)

    def session(self, headers: Any) -> Any:
        self.headers = headers
        return Grpc

    def status(self, events: Any) -> bytes:
        return b""

    async def close(self) -> None: ...


@contextlib.asynccontextmanager
async def server(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    api = ApiServer(cast(Any, SimpleNamespace()), router, Doors())
    path = str(tmp_path / "s")
    listening = await asyncio.get_running_loop().create_unix_server(api.protocol, path)
    try:
        yield lambda: asyncio.open_unix_connection(path)
    finally:
        listening.close()
        await api.close(0.1)


async def head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:] if line)
    return int(lines[0].split()[1]), {name.lower(): value for name, value in fields.items()}


async def get(client: Client, path: str) -> tuple[int, dict[str, str], Any]:
    reader, writer = client
    writer.write(f"GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n".encode())
    status, fields = await head(reader)
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    return status, fields, json.loads(body) if body else None


UPGRADE = b"POST /v1.50/echo HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
UPGRADE_WITH_BODY = (
    b"POST /v1.50/echo HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)


def test_names_hold_slashes_and_versions_are_stripped(tmp_path: Path) -> None:
    async def run() -> None:
        async with server(tmp_path) as connect:
            status, _, body = await get(await connect(), "/v1.41/hello/docker.io/library/x%2Fy:1/json")
            assert status == 200
            assert body == {"name": "docker.io/library/x/y:1", "version": [1, 41]}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/nowhere", 404, "page not found"),
        ("/conflict", 409, "already there"),
        ("/broken", 500, "KeyError: 'surprise'"),
        ("/v1.12/conflict", 400, "client version 1.12 is too old"),
        ("/v9.99/conflict", 400, "client version 9.99 is too new"),
    ],
)
def test_errors_have_dockers_status_and_shape(tmp_path: Path, path: str, status: int, message: str) -> None:
    async def run() -> None:
        async with server(tmp_path) as connect:
            got, headers, body = await get(await connect(), path)
            assert got == status
            assert message in body["message"]
            assert headers["api-version"].startswith("1.")

    asyncio.run(run())


def test_a_request_may_be_as_long_as_gos_server_lets_it(tmp_path: Path) -> None:
    """The names of images to save come in the query."""

    async def run() -> None:
        async with server(tmp_path) as connect:
            status, _, body = await get(await connect(), f"/hello/x/json?{'n' * 300_000}")
            assert (status, body["name"]) == (200, "x")
            for wrong, answer in (
                (b"GET /hello/x/json?" + b"n" * 1_100_000, 431),
                (b"GET /hello/x/json HTTP/1.1\r\nA: " + b"n" * 1_100_000, 431),
                (b"GET /hello/x/json HTTP/1.1\r\n: :\r\n\r\n", 400),
            ):
                reader, writer = await connect()
                writer.write(wrong)
                status, fields = await head(reader)
                assert status == answer, fields

    asyncio.run(run())


def test_who_has_no_more_to_say_still_gets_the_answer(tmp_path: Path) -> None:
    """`nc -N` and many a health probe close their direction behind the request."""

    async def run() -> None:
        async with server(tmp_path) as connect:
            reader, writer = await connect()
            writer.write(b"GET /hello/x/json HTTP/1.1\r\nHost: d\r\n\r\n" * 2)
            writer.write_eof()
            assert (await asyncio.wait_for(reader.read(), 10)).count(b"HTTP/1.1 200 OK") == 2
            reader, writer = await connect()
            writer.write(UPGRADE + b"shout")
            writer.write_eof()
            assert (await asyncio.wait_for(reader.read(), 10)).endswith(b"SHOUTbye")
            for broken in (b"POST /conflict HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\n\r\n{", b""):
                reader, writer = await connect()
                writer.write(broken)
                writer.write_eof()
                assert await asyncio.wait_for(reader.read(), 10) == b""
            seen["streaming"], seen["ended"] = asyncio.Event(), asyncio.Event()
            reader, writer = await connect()
            writer.write(b"GET /stream HTTP/1.1\r\nHost: d\r\n\r\n")
            await asyncio.wait_for(seen["streaming"].wait(), 10)
            writer.write_eof()
            await asyncio.wait_for(seen["ended"].wait(), 10)

    asyncio.run(run())


def test_not_modified_has_no_body(tmp_path: Path) -> None:
    async def run() -> None:
        async with server(tmp_path) as connect:
            assert (await get(await connect(), "/unchanged"))[::2] == (304, None)

    asyncio.run(run())


@pytest.mark.parametrize("request_bytes", [UPGRADE, UPGRADE_WITH_BODY])
@pytest.mark.parametrize("together", [True, False])
def test_input_in_the_requests_own_segment_is_not_lost(
    tmp_path: Path, request_bytes: bytes, together: bool
) -> None:
    async def run() -> None:
        async with server(tmp_path) as connect:
            reader, writer = await connect()
            if together:
                writer.write(request_bytes + b"first ")
                status, fields = await head(reader)
            else:
                writer.write(request_bytes)
                status, fields = await head(reader)
                writer.write(b"first ")
            assert (status, fields["upgrade"], fields["content-type"]) == (101, "tcp", MULTIPLEXED_STREAM)
            writer.write(b"second")
            assert await reader.readexactly(12) == b"FIRST SECOND"
            writer.write_eof()
            assert await reader.read() == b"bye", "output after the client's half-close must arrive"

    asyncio.run(run())


def test_without_upgrade_the_old_200_is_given(tmp_path: Path) -> None:
    async def run() -> None:
        async with server(tmp_path) as connect:
            reader, writer = await connect()
            writer.write(b"POST /echo HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
            assert (await head(reader))[0] == 200
            writer.write(b"x")
            assert await reader.readexactly(1) == b"X"
            writer.write_eof()
            assert await reader.read() == b"bye"

    asyncio.run(run())


def test_a_client_that_does_not_read_holds_the_writer(tmp_path: Path) -> None:
    async def run() -> None:
        async with server(tmp_path) as connect:
            reader, writer = await connect()
            seen["written"] = 0
            writer.write(b"POST /flood HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
            await head(reader)
            cast(asyncio.Transport, writer.transport).pause_reading()
            before = -1
            while before != seen["written"]:  # until the writer stands still
                before = seen["written"]
                await asyncio.sleep(0.05)
            assert before < 64
            cast(asyncio.Transport, writer.transport).resume_reading()
            data = await reader.read(-1)
            assert data == b"".join(bytes([number]) * 65536 for number in range(64))

    asyncio.run(run())


def test_a_leaving_client_ends_the_stream(tmp_path: Path) -> None:
    async def run() -> None:
        seen["streaming"], seen["ended"] = asyncio.Event(), asyncio.Event()
        async with server(tmp_path) as connect:
            reader, writer = await connect()
            writer.write(b"GET /stream HTTP/1.1\r\nHost: d\r\n\r\n")
            assert (await head(reader))[0] == 200  # headers are there before any body
            await seen["streaming"].wait()
            writer.close()
            await asyncio.wait_for(seen["ended"].wait(), 5)

    asyncio.run(run())


@pytest.mark.parametrize("cut", [1, 3, len(HTTP2_PREFACE)])
def test_the_http2_preface_is_handed_over_also_in_pieces(tmp_path: Path, cut: int) -> None:
    async def run() -> None:
        async with server(tmp_path) as connect:
            reader, writer = await connect()
            writer.write(HTTP2_PREFACE[:cut])
            await asyncio.sleep(0.02)  # a segment boundary, not a wait for a result
            writer.write(HTTP2_PREFACE[cut:] + b"abc")
            answer = await reader.readexactly(6)
            assert answer[:3] == b"h2:"

    asyncio.run(run())


def test_a_request_that_starts_like_the_preface_is_http1(tmp_path: Path) -> None:
    async def run() -> None:
        async with server(tmp_path) as connect:
            reader, writer = await connect()
            writer.write(b"P")
            await asyncio.sleep(0.02)
            writer.write(UPGRADE[1:] + b"x")
            assert (await head(reader))[0] == 101

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/grpc", "/session", "/v1.47/grpc"])
def test_a_request_becomes_a_grpc_connection_with_every_byte_behind_it(tmp_path: Path, path: str) -> None:
    async def run() -> None:
        async with server(tmp_path) as connect:
            reader, writer = await connect()
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nabc".encode()
            )
            status, fields = await head(reader)
            assert (status, fields["connection"], fields["upgrade"]) == (101, "Upgrade", "h2c")
            assert await reader.readexactly(6) == b"h2:abc"
            writer.write(b"and on")
            assert await reader.readexactly(6) == b"and on"

    asyncio.run(run())


@pytest.mark.parametrize("upgrade", ["", "Connection: Upgrade\r\nUpgrade: tcp\r\n"])
def test_a_grpc_request_without_its_upgrade_is_refused(tmp_path: Path, upgrade: str) -> None:
    async def run() -> None:
        async with server(tmp_path) as connect:
            reader, writer = await connect()
            writer.write(f"POST /grpc HTTP/1.1\r\nHost: d\r\n{upgrade}\r\n".encode())
            assert (await head(reader))[0] == 400

    asyncio.run(run())
