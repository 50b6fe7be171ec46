"""Services that need no builder: gRPC's health checks, and traces, which are taken and let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from sampan.buildkit.protos import trace_pb2
from sampan.grpc import health_pb2
from sampan.grpc.server import Caller


class Health:
    """The builder serves as long as it answers."""

    async def check(
        self, request: health_pb2.HealthCheckRequest, caller: Caller
    ) -> health_pb2.HealthCheckResponse:
        """Of the whole."""
        return _serving()

    async def list(
        self, request: health_pb2.HealthListRequest, caller: Caller
    ) -> health_pb2.HealthListResponse:
        """Of each service; there is one state for all."""
        return health_pb2.HealthListResponse(statuses={"": _serving()})

    async def watch(
        self, request: health_pb2.HealthCheckRequest, caller: Caller
    ) -> AsyncGenerator[health_pb2.HealthCheckResponse, None]:
        """It changes with the connection's end only."""
        yield _serving()
        await asyncio.Event().wait()


class Traces:
    """buildx sends its spans to the builder, for a collector that nobody configured here."""

    async def export(
        self, request: trace_pb2.ExportTraceServiceRequest, caller: Caller
    ) -> trace_pb2.ExportTraceServiceResponse:
        """Taken, and let go."""
        return trace_pb2.ExportTraceServiceResponse()


def _serving() -> health_pb2.HealthCheckResponse:
    return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
