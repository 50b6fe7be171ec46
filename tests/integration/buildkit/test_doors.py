"""The doors of an engine's builder: HTTP/2 on its sockets, `POST /grpc`, a socket of its own."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from registry_peer import free_port
from running_engine import RunningEngine
from sampan.buildkit.protos import control_pb2 as pb
from sampan.buildkit.protos import trace_pb2
from sampan.grpc import health_pb2
from sampan.grpc.client import GrpcClient

T = TypeVar("T")
CONTROL = pb.DESCRIPTOR.services_by_name["Control"].methods_by_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name
TRACES = trace_pb2.DESCRIPTOR.services_by_name["TraceService"].methods_by_name
UPGRADE = b"POST /v1.47/grpc HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

pytestmark = pytest.mark.root


def call(address: Path | int, request: bytes, work: Callable[[GrpcClient], Awaitable[T]]) -> T:
    """Through the door that the request opens, if any, on a socket or a port of this machine."""

    async def run() -> T:
        loop = asyncio.get_running_loop()
        is_port = isinstance(address, int)
        connected = socket.socket(socket.AF_INET if is_port else socket.AF_UNIX)
        connected.setblocking(False)
        await loop.sock_connect(connected, ("127.0.0.1", address) if is_port else str(address))
        if request:
            await loop.sock_sendall(connected, request)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await loop.sock_recv(connected, 1)
            assert head.startswith(b"HTTP/1.1 101 ")
        connect = loop.create_connection if is_port else loop.create_unix_connection
        transport, _ = await connect(asyncio.Protocol, sock=connected)
        client = GrpcClient(transport)
        transport.set_protocol(client.protocol)
        try:
            return await asyncio.wait_for(work(client), 20)
        finally:
            client.close()

    return asyncio.run(run())


async def ask(client: GrpcClient) -> Any:
    serving = await client.call(HEALTH["Check"], health_pb2.HealthCheckRequest())
    assert serving.status == health_pb2.HealthCheckResponse.SERVING
    await client.call(TRACES["Export"], trace_pb2.ExportTraceServiceRequest())
    info = await client.call(CONTROL["Info"], pb.InfoRequest())
    assert info.buildkitVersion.version.startswith("v0.")
    return await client.call(CONTROL["ListWorkers"], pb.ListWorkersRequest())


@pytest.mark.parametrize("door", ["first byte", "upgrade", "own socket"])
def test_every_door_leads_to_the_builder(engine: RunningEngine, door: str) -> None:
    path = engine.exec_root / "buildkit.sock" if door == "own socket" else engine.socket
    workers = call(path, UPGRADE if door == "upgrade" else b"", ask)
    (worker,) = workers.record
    assert worker.Labels["org.mobyproject.buildkit.worker.snapshotter"] == "overlayfs"
    assert (worker.platforms[0].OS, worker.platforms[0].Architecture) == ("linux", "amd64")


@pytest.mark.parametrize("request_", [b"", UPGRADE], ids=["first byte", "upgrade"])
def test_a_port_leads_there_too(make_engine: Callable[..., RunningEngine], request_: bytes) -> None:
    port = free_port()
    make_engine("-H", f"tcp://127.0.0.1:{port}", image=False)
    (worker,) = call(port, request_, ask).record
    assert worker.platforms[0].OS == "linux"


def test_the_builders_socket_is_for_those_who_may_use_the_engine(engine: RunningEngine) -> None:
    own, common = (engine.exec_root / "buildkit.sock").stat(), engine.socket.stat()
    assert (own.st_mode, own.st_uid, own.st_gid) == (common.st_mode, common.st_uid, common.st_gid)


def test_an_engine_that_nobody_builds_on_has_loaded_nothing_for_it(
    make_engine: Callable[..., RunningEngine],
) -> None:
    running = make_engine(image=False)
    running.docker("version")

    def loaded() -> str:
        return Path(f"/proc/{running.pid}/maps").read_text()

    assert "google" not in loaded()
    call(running.socket, b"", ask)
    assert "google" in loaded()
    running.stop()
    assert subprocess.run(["test", "-e", running.exec_root / "buildkit.sock"], check=False).returncode == 1
