"""What an engine costs that has nothing to do, and what many containers cost beside their own."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks import processes
from benchmarks.contestants import Contestant
from benchmarks.material import BUSYBOX
from benchmarks.row import Arena, Gate, Row, Samples, interleaved, timed

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
    """Containers that sleep, removed at the end."""

    def __init__(self, engine: Contestant, count: int) -> None:
        self._api = engine.api()
        self.names = []
        try:
            for _ in range(count):
                self.names.append(str(self._api.call("POST", "/containers/create", body=_SLEEP)["Id"]))
                self._api.call("POST", f"/containers/{self.names[-1]}/start")
        except BaseException:
            self.remove()
            raise

    def pids(self) -> list[int]:
        """The containers' main processes."""
        return [int(self._api.call("GET", f"/containers/{name}/json")["State"]["Pid"]) for name in self.names]

    def remove(self) -> None:
        for name in self.names:
            self._api.call("DELETE", f"/containers/{name}", {"force": True})


def _memory_among(arena: Arena, count: int) -> Samples:
    """The memory of the shims above these containers' processes, for each container."""
    shares: dict[str, list[float]] = {}
    for engine in arena.engines:
        crowd = Crowd(engine, count)
        try:
            time.sleep(_SETTLE_SECONDS)
            above = {pid for main in crowd.pids() for pid in processes.ancestors(main)}
            shims = above.intersection(engine.roles()["shims"])
            shares[engine.name] = [sum(map(processes.pss, shims)) / count]
        finally:
            crowd.remove()
    return shares


def memory_of_one(arena: Arena) -> Samples:
    return _memory_among(arena, 1)


def memory_among_many(arena: Arena) -> Samples:
    return _memory_among(arena, max(arena.crowd // 2, 1))


def _with_crowds(arena: Arena, measure: Callable[[], Samples]) -> Samples:
    crowds = []
    try:
        for engine in arena.engines:
            crowds.append(Crowd(engine, arena.crowd))
        return measure()
    finally:
        for crowd in crowds:
            crowd.remove()


def listing(arena: Arena) -> Samples:
    return _with_crowds(
        arena, lambda: interleaved(arena.engines, 10, lambda engine: timed(lambda: engine.docker("ps")))
    )


def rest(arena: Arena) -> Samples:
    """Percent of one CPU that all of an engine's own processes use while nobody asks anything."""

    def usage(engine: Contestant) -> float:
        pids = [pid for role in engine.roles().values() for pid in role]
        before = {pid: processes.cpu_seconds(pid) for pid in pids}
        time.sleep(_REST_SECONDS)
        return sum(processes.cpu_seconds(pid) - used for pid, used in before.items()) / _REST_SECONDS * 100

    def settled() -> Samples:
        time.sleep(_SETTLE_SECONDS)
        return interleaved(arena.engines, 2, usage, warm_up=0)

    return _with_crowds(arena, settled)


ROWS = (
    Row("idle", "memory at rest: engine and zygote", "MB", False, Gate(limit=60), idle),
    Row("parked", "the shims kept ready beside it", "MB", False, Gate(ratio=0), parked),
    Row("memory-1", "memory of a container beside its own, alone", "MB", False, Gate(limit=5), memory_of_one),
    Row("memory-many", "the same among 100", "MB", False, Gate(limit=1.5), memory_among_many),
    Row("ps", "`docker ps` with 200 containers running", "ms", False, Gate(), listing),
    Row("rest", "CPU at rest with 200 running", "%", False, Gate(), rest),
)
