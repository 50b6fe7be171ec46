"""Images: loading Debian, committing a small change on top of it."""

from __future__ import annotations

import os
from functools import partial

from benchmarks.contestants import Contestant
from benchmarks.material import DEBIAN
from benchmarks.row import Arena, Gate, Row, Samples, interleaved, timed


def load(arena: Arena) -> Samples:
    """Both load the same archive, a new one each round: nothing is deleted between, and nothing is known already."""
    samples: dict[str, list[float]] = {engine.name: [] for engine in arena.engines}
    for number in range(4):
        archive = arena.material.debian()
        os.sync()
        order = arena.engines if number % 2 else arena.engines[::-1]
        for engine in order:
            took = timed(partial(engine.docker, "load", "-i", str(archive)))
            if number:
                samples[engine.name].append(took)
        archive.unlink()
    return samples


def debian(arena: Arena) -> str:
    """An image of Debian that both have."""
    reference = f"{DEBIAN}:1"
    if all(
        reference in engine.output("images", "--format", "{{.Repository}}:{{.Tag}}")
        for engine in arena.engines
    ):
        return reference
    archive = arena.material.debian()
    for engine in arena.engines:
        engine.docker("load", "-i", str(archive))
    archive.unlink()
    return reference


def commit(arena: Arena) -> Samples:
    """A commit of a container that changed one file of Debian."""
    image = debian(arena)
    boxes = {
        engine.name: engine.output("run", "-d", image, "sh", "-c", "echo changed > /etc/motd")
        for engine in arena.engines
    }
    for engine in arena.engines:
        engine.docker("wait", boxes[engine.name])

    def once(engine: Contestant) -> float:
        api = engine.api()
        return timed(
            lambda: api.call("POST", "/commit", {"container": boxes[engine.name], "repo": "bench-commit"})
        )

    try:
        return interleaved(arena.engines, max(5, arena.rounds // 2), once)
    finally:
        for engine in arena.engines:
            engine.docker("rm", boxes[engine.name])


ROWS = (
    Row("load", "`docker load` of Debian, 170 MB", "ms", False, Gate(), load),
    Row("commit", "commit of a small change to it", "ms", False, Gate(), commit),
)
