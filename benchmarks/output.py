"""Logs: how fast a container can write one, and how fast it is read back."""

from __future__ import annotations

import time

from benchmarks.contestants import Contestant
from benchmarks.material import BUSYBOX
from benchmarks.row import Arena, Gate, Row, Samples, interleaved

_LINE = "The quick brown fox jumps over the lazy dog and runs on until the line is one hundred bytes long, 99"


def _write(engine: Contestant, megabytes: int) -> tuple[str, float]:
    """A container that writes lines of 100 bytes; its id and MB/s from start to exit."""
    api = engine.api()
    script = f"yes '{_LINE}' | head -c {megabytes}000000"
    box = api.call("POST", "/containers/create", body={"Image": BUSYBOX, "Cmd": ["sh", "-c", script]})["Id"]
    began = time.perf_counter()
    api.call("POST", f"/containers/{box}/start")
    api.call("POST", f"/containers/{box}/wait")
    return box, megabytes / (time.perf_counter() - began)


def writing(arena: Arena) -> Samples:
    def once(engine: Contestant) -> float:
        box, speed = _write(engine, arena.megabytes)
        engine.docker("rm", box)
        return speed

    return interleaved(arena.engines, 3, once, warm_up=0)


def reading(arena: Arena) -> Samples:
    boxes = {engine.name: _write(engine, arena.megabytes)[0] for engine in arena.engines}

    def once(engine: Contestant) -> float:
        began = time.perf_counter()
        engine.docker("logs", boxes[engine.name])
        return arena.megabytes / (time.perf_counter() - began)

    try:
        return interleaved(arena.engines, 3, once, warm_up=0)
    finally:
        for engine in arena.engines:
            engine.docker("rm", boxes[engine.name])


ROWS = (
    Row("log-write", "a container writing its log", "MB/s", True, Gate(), writing),
    Row("log-read", "`docker logs` of it", "MB/s", True, Gate(), reading),
)
