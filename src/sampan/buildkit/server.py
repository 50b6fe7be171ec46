"""The builder's services together, and the connections and sessions that reach them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sampan.buildkit.blobs import Blobs
from sampan.buildkit.control import Control
from sampan.buildkit.direct import DirectBuilds
from sampan.buildkit.gateway import Gateway, by_build
from sampan.buildkit.history import BuildHistory
from sampan.buildkit.jobs import Jobs, Surroundings
from sampan.buildkit.posted import PostedBuilds
from sampan.buildkit.protos import content_pb2, control_pb2, gateway_pb2, trace_pb2
from sampan.buildkit.session import ClientSession
from sampan.buildkit.small import Health, Traces
from sampan.buildkit.waiting import SessionDirectory
from sampan.grpc import health_pb2
from sampan.grpc.server import GrpcServer, Service

if TYPE_CHECKING:
    from sampan.api.frontdoor import Http2Door
    from sampan.buildkit.bridge import Bridge
    from sampan.engine.engine import Engine


class BuilderServer:
    """Made at the first connection."""

    def __init__(self, engine: Engine) -> None:
        self.sessions = SessionDirectory()
        history = BuildHistory(engine.builds.graphs.history)

        def serve(bridge: Bridge) -> GrpcServer:
            """For a frontend that runs here."""

            async def find(metadata: Mapping[str, str]) -> Bridge:
                return bridge

            gateway = Gateway(engine, find, history)
            return GrpcServer(
                [
                    Service(gateway_pb2.DESCRIPTOR.services_by_name["LLBBridge"], gateway),
                    Service(health_pb2.DESCRIPTOR.services_by_name["Health"], Health()),
                ]
            )

        jobs = Jobs(Surroundings(engine.id, engine.config.data_path / "build", serve))
        control = Control(engine, self.sessions, jobs, history)
        gateway = Gateway(engine, by_build(jobs), history)
        blobs = Blobs(engine.images.parts.content, history)
        self.direct = DirectBuilds(engine, control, self.sessions, jobs, history)
        self.posted = PostedBuilds(control, self.sessions, jobs, lambda: engine.builds.graphs.solving.trees)
        self._grpc = GrpcServer(
            [
                Service(control_pb2.DESCRIPTOR.services_by_name["Control"], control),
                Service(gateway_pb2.DESCRIPTOR.services_by_name["LLBBridge"], gateway),
                Service(content_pb2.DESCRIPTOR.services_by_name["Content"], blobs),
                Service(health_pb2.DESCRIPTOR.services_by_name["Health"], Health()),
                Service(trace_pb2.DESCRIPTOR.services_by_name["TraceService"], Traces()),
            ]
        )

    @property
    def open_connections(self) -> int:
        """Clients that are connected; those of sessions by HTTP are counted where they came in."""
        return self._grpc.open_connections

    def accept(self, transport: asyncio.Transport, received: bytes) -> asyncio.Protocol:
        """Serve a connection."""
        return self._grpc.accept(transport, received)

    def session(self, headers: Mapping[str, Sequence[str]]) -> Http2Door:
        """What takes a session's connection. Raises `InvalidParameter`, `Conflict`."""
        announced = self.sessions.announced(headers)

        def take(transport: asyncio.Transport, received: bytes) -> asyncio.Protocol:
            session = ClientSession(announced, transport, received)
            self.sessions.add_while_open(session)
            return session.protocol

        return take

    async def close(self) -> None:
        """End every connection and session."""
        self.sessions.close()
        await self._grpc.close()
