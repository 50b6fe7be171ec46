"""What a program may only do when whoever ordered the build said so: a Dockerfile's author alone cannot."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sampan.errors import Forbidden
from sampan.llb import ops_pb2
from sampan.llb.graph import Graph, Vertex


def needed(vertex: Vertex) -> Iterator[str]:
    """The entitlements that a vertex needs, in BuildKit's words."""
    if vertex.kind != "exec":
        return
    for device in vertex.op.exec.cdiDevices:
        yield f"device={device.name}"
    if vertex.op.exec.network == ops_pb2.HOST:
        yield "network.host"
    if vertex.op.exec.security == ops_pb2.INSECURE:
        yield "security.insecure"


def need(entitlement: str, allowed: Collection[str], what: str = "") -> None:
    """Raises `Forbidden` unless it is allowed: by its name, or all of its kind."""
    if entitlement not in allowed and entitlement.partition("=")[0] not in allowed:
        raise Forbidden(f"{what}{entitlement} is not allowed")


def check(graph: Graph, allowed: Collection[str]) -> None:
    """Raises `Forbidden` for the first vertex of a graph that needs what is not allowed."""
    for vertex in graph.vertices():
        for entitlement in needed(vertex):
            need(entitlement, allowed, "failed to load LLB: ")
