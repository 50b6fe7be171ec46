"""A builder that answers what buildx asks at once and builds nothing: a client's time against it is the client's own.

    python -m benchmarks.build.stub SOCKET

It says what an engine says of a fully cached build of the twenty instructions: as many vertices, an image's name and digest. Its
own time is little, and is told by its processor time, which the benchmark takes away from the client's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.buildkit import capabilities
from sampan.buildkit.protos import control_pb2, gateway_pb2, trace_pb2, worker_pb2
from sampan.buildkit.small import Health, Traces
from sampan.errors import NotSupported
from sampan.grpc import health_pb2
from sampan.grpc.server import Caller, GrpcServer, Service
from sampan.llb import ops_pb2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
VERTICES = 16
DIGEST = "sha256:" + "1" * 64
_JSON = {
    "info": {"OSType": "linux", "Driver": "stub", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]},
    "version": {"ApiVersion": "1.50", "MinAPIVersion": "1.24", "Os": "linux"},
}  # fmt: skip
_PING = "Api-Version: 1.50\r\nOstype: linux\r\nBuilder-Version: 2\r\n"


class _Refusing:
    """Every method that is not there: nobody asks for it in a build that is cached."""

    def __getattr__(self, name: str) -> Any:
        async def refuse(*_: Any) -> None:
            raise NotSupported(f"the stub does not know {name}")

        return refuse


class _Builds:
    """By their client's name for them; done once their result is returned."""

    def __init__(self) -> None:
        self._done: dict[str, asyncio.Event] = {}

    def done(self, ref: str) -> asyncio.Event:
        return self._done.setdefault(ref, asyncio.Event())


class Control(_Refusing):
    """A solve ends when the client's frontend has returned its result, as with every builder."""

    def __init__(self, builds: _Builds) -> None:
        self._builds = builds

    async def info(self, request: control_pb2.InfoRequest, caller: Caller) -> control_pb2.InfoResponse:
        return control_pb2.InfoResponse(buildkitVersion=_version())

    async def list_workers(
        self, request: control_pb2.ListWorkersRequest, caller: Caller
    ) -> control_pb2.ListWorkersResponse:
        return control_pb2.ListWorkersResponse(record=[_worker()])

    async def solve(self, request: control_pb2.SolveRequest, caller: Caller) -> control_pb2.SolveResponse:
        await self._builds.done(request.Ref).wait()
        return control_pb2.SolveResponse(
            ExporterResponse={
                "image.name": "docker.io/library/built:latest",
                "containerimage.digest": DIGEST,
                "containerimage.config.digest": DIGEST,
            }
        )

    async def status(
        self, request: control_pb2.StatusRequest, caller: Caller
    ) -> AsyncGenerator[control_pb2.StatusResponse, None]:
        await self._builds.done(request.Ref).wait()
        now = Timestamp()
        now.GetCurrentTime()
        yield control_pb2.StatusResponse(
            vertexes=[
                control_pb2.Vertex(
                    digest="sha256:" + f"{number:064}",
                    name=f"[{number}/{VERTICES}] RUN echo {number}",
                    started=now,
                    completed=now,
                    cached=True,
                )
                for number in range(VERTICES)
            ]
        )

    async def listen_build_history(
        self, request: control_pb2.BuildHistoryRequest, caller: Caller
    ) -> AsyncGenerator[control_pb2.BuildHistoryEvent, None]:
        for _ in ():
            yield control_pb2.BuildHistoryEvent()


class Gateway(_Refusing):
    """What a client's frontend asks."""

    def __init__(self, builds: _Builds) -> None:
        self._builds = builds

    async def ping(self, request: gateway_pb2.PingRequest, caller: Caller) -> gateway_pb2.PongResponse:
        return gateway_pb2.PongResponse(
            FrontendAPICaps=capabilities.messages(capabilities.FRONTEND),
            LLBCaps=capabilities.messages(capabilities.LLB),
            Workers=[_worker()],
        )

    async def solve(self, request: gateway_pb2.SolveRequest, caller: Caller) -> gateway_pb2.SolveResponse:
        definition = ops_pb2.Definition(ops=[bytes(100)] * VERTICES)
        ref = gateway_pb2.Ref(id="1")
        getattr(ref, "def").CopyFrom(definition)  # a word of Python's
        return gateway_pb2.SolveResponse(result=gateway_pb2.Result(ref=ref))

    async def return_(self, request: gateway_pb2.ReturnRequest, caller: Caller) -> gateway_pb2.ReturnResponse:
        self._builds.done(caller.metadata["buildkit-controlapi-buildid"]).set()
        return gateway_pb2.ReturnResponse()


def _version() -> worker_pb2.BuildkitVersion:
    return worker_pb2.BuildkitVersion(package="stub", version="v0.33.0", revision="1")


def _worker() -> worker_pb2.WorkerRecord:
    return worker_pb2.WorkerRecord(
        ID="stub",
        Labels={"org.mobyproject.buildkit.worker.snapshotter": "overlayfs"},
        platforms=[ops_pb2.Platform(OS="linux", Architecture="amd64")],
        BuildkitVersion=_version(),
    )


def grpc_server() -> GrpcServer:
    """The builder's services."""
    builds = _Builds()
    return GrpcServer(
        [
            Service(control_pb2.DESCRIPTOR.services_by_name["Control"], Control(builds)),
            Service(gateway_pb2.DESCRIPTOR.services_by_name["LLBBridge"], Gateway(builds)),
            Service(health_pb2.DESCRIPTOR.services_by_name["Health"], Health()),
            Service(trace_pb2.DESCRIPTOR.services_by_name["TraceService"], Traces()),
        ]
    )


class Door(asyncio.Protocol):
    """One connection: gRPC at once or after an upgrade, a session that nothing is asked on, or a few answers of the API."""

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._idle = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._idle:
            return
        self._received += data
        if self._received.startswith(PREFACE[: len(self._received)]):
            if len(self._received) >= len(PREFACE):
                self._hand_over()
            return
        while b"\r\n\r\n" in self._received and not self._idle:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._answer(head.decode("latin-1"))

    def _hand_over(self) -> None:
        assert self._transport is not None
        received, self._received = self._received, b""
        self._transport.set_protocol(self._server.accept(self._transport, received))

    def _answer(self, head: str) -> None:
        assert self._transport is not None
        method, target, _ = head.split(" ", 2)
        action = target.partition("?")[0].rpartition("/")[2]
        if action in ("grpc", "session"):
            self._transport.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
            self._idle = True
            if action == "grpc":
                self._hand_over()
            return
        body = b"" if method == "HEAD" or action == "_ping" else json.dumps(_JSON.get(action, {})).encode()
        self._transport.write(
            f"HTTP/1.1 200 OK\r\n{_PING}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )


async def main(path: str) -> None:
    """Serve until killed."""
    server = grpc_server()
    listener = await asyncio.get_running_loop().create_unix_server(lambda: Door(server), path)
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
