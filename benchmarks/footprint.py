"""What an engine costs that has nothing to do, and what many containers cost beside their own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from benchmarks import processes
from benchmarks.contestants import Contestant
from benchmarks.material import BUSYBOX
from benchmarks.row import Gate, Row, Samples, interleaved, timed

if TYPE_CHECKING:
    from benchmarks.row import Arena

_SLEEP = {"Image": BUSYBOX, "Cmd": ["sleep", "3600"], "HostConfig": {"NetworkMode": "bridge"}}
_REST_SECONDS = 10
_SETTLE_SECONDS = 3


def memory(engine: Contestant, *roles: str) -> float:
    """MB (PSS) of the processes of these roles."""
    return sum(processes.pss(pid) for role, pids in engine.roles().items() if role in roles for pid in pids)


def idle(arena: Arena) -> Samples:
    """Engine and zygote; dockerd and containerd."""
    time.sleep(_SETTLE_SECONDS)
    return {engine.name: [memory(engine, "engine", "zygote", "containerd")] for engine in arena.engines}


def parked(arena: Arena) -> Samples:
    """The shims that Sampan keeps ready; Docker has none."""
    return {engine.name: [memory(engine, "shims")] for engine in arena.engines}


class Crowd:
    """Containers of one engine that sleep; it only grows, and is removed at the end of the run."""

    def __init__(self, engine: Contestant) -> None:
        self._api = engine.api()
        self.names: list[str] = []

    def grow(self, count: int) -> None:
        """Start containers until there are as many."""
        while len(self.names) < count:
            self.names.append(str(self._api.call("POST", "/containers/create", body=_SLEEP)["Id"]))
            self._api.call("POST", f"/containers/{self.names[-1]}/start")

    def pids(self) -> list[int]:
        """The containers' main processes."""
        return [int(self._api.call("GET", f"/containers/{name}/json")["State"]["Pid"]) for name in self.names]

    def remove(self) -> None:
        while self.names:
            self._api.call("DELETE", f"/containers/{self.names.pop()}", {"force": True})


@contextlib.contextmanager
def crowds(engines: Sequence[Contestant]) -> Iterator[dict[str, Crowd]]:
    """A crowd for each engine, by its name."""
    made = {engine.name: Crowd(engine) for engine in engines}
    try:
        yield made
    finally:
        for crowd in made.values():
            crowd.remove()


def _gather(arena: Arena, count: int) -> None:
    for engine in arena.engines:
        arena.crowds[engine.name].grow(count)
    time.sleep(_SETTLE_SECONDS)


def _memory_among(arena: Arena, count: int) -> Samples:
    """The memory of the shims above these containers' processes, for each container."""
    _gather(arena, count)
    shares: dict[str, list[float]] = {}
    for engine in arena.engines:
        pids = arena.crowds[engine.name].pids()
        above = {pid for main in pids for pid in processes.ancestors(main)}
        shims = above.intersection(engine.roles()["shims"])
        shares[engine.name] = [sum(map(processes.pss, shims)) / len(pids)]
    return shares


def memory_of_one(arena: Arena) -> Samples:
    return _memory_among(arena, 1)


def memory_among_many(arena: Arena) -> Samples:
    return _memory_among(arena, max(arena.crowd // 2, 1))


def listing(arena: Arena) -> Samples:
    _gather(arena, arena.crowd)
    return interleaved(arena.engines, 10, lambda engine: timed(lambda: engine.docker("ps")))


def rest(arena: Arena) -> Samples:
    """Percent of one CPU that all of an engine's own processes use while nobody asks anything."""

    def usage(engine: Contestant) -> float:
        pids = [pid for role in engine.roles().values() for pid in role]
        before = {pid: processes.cpu_seconds(pid) for pid in pids}
        time.sleep(_REST_SECONDS)
        return sum(processes.cpu_seconds(pid) - used for pid, used in before.items()) / _REST_SECONDS * 100

    _gather(arena, arena.crowd)
    return interleaved(arena.engines, 2, usage, warm_up=0)


ROWS = (
    Row("idle", "memory at rest: engine and zygote", "MB", False, Gate(limit=60), idle),
    Row("parked", "the shims kept ready beside it", "MB", False, Gate(ratio=0), parked),
    Row("memory-1", "memory of a container beside its own, alone", "MB", False, Gate(limit=5), memory_of_one),
    Row("memory-many", "the same among 100", "MB", False, Gate(limit=1.5), memory_among_many),
    Row("ps", "`docker ps` with 200 containers running", "ms", False, Gate(), listing),
    Row("rest", "CPU at rest with 200 running", "%", False, Gate(), rest),
)
