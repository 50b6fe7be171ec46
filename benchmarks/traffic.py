"""Throughput over TCP: between two containers, and through a published port."""

from __future__ import annotations

import json

from benchmarks.contestants import Contestant
from benchmarks.imaging import debian
from benchmarks.row import Arena, Gate, Row, Samples, interleaved

_PORT = 5201
_SECONDS = 2


def between(arena: Arena) -> Samples:
    return _measure(arena, "bridge", "{{.NetworkSettings.IPAddress}}")


def published(arena: Arena) -> Samples:
    """From the engine's side of the machine to the port, at an address of the machine that is not loopback."""
    return _measure(arena, "host", "{{.NetworkSettings.Gateway}}")


def _measure(arena: Arena, client_network: str, address_format: str) -> Samples:
    image = debian(arena)
    made: list[tuple[Contestant, str]] = []

    def box(engine: Contestant, *arguments: str) -> str:
        made.append((engine, engine.output("run", "-d", *arguments)))
        return made[-1][1]

    try:
        sides = {}
        for engine in arena.engines:
            server = box(engine, "-p", f"{_PORT}:{_PORT}", image, "iperf3", "-s")
            client = box(engine, "--net", client_network, image, "sleep", "3600")
            sides[engine.name] = (client, engine.output("inspect", "-f", address_format, server))

        def once(engine: Contestant) -> float:
            client, address = sides[engine.name]
            answer = engine.output("exec", client, "iperf3", "-J", "-t", str(_SECONDS), "-c", address)
            return float(json.loads(answer)["end"]["sum_received"]["bits_per_second"]) / 1e9

        return interleaved(arena.engines, 5, once)
    finally:
        for engine, name in made:
            engine.docker("rm", "-f", name)


ROWS = (
    Row("net-bridge", "TCP between two containers", "Gbit/s", True, Gate(), between),
    Row("net-published", "TCP through a published port", "Gbit/s", True, Gate(), published),
)
