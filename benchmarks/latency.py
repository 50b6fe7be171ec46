"""How long one container takes: through the docker command line, through the API, by one client and by eight."""

from __future__ import annotations

import threading
import time

from benchmarks.contestants import Contestant
from benchmarks.material import BUSYBOX
from benchmarks.row import Arena, Gate, Row, Samples, interleaved, timed
from sampan.client.api import Api

CLIENTS = 8
_TRUE = {"Image": BUSYBOX, "Cmd": ["true"]}


def run(arena: Arena) -> Samples:
    return _docker(arena, "run", "--rm", BUSYBOX, "true")


def run_without_network(arena: Arena) -> Samples:
    return _docker(arena, "run", "--rm", "--net", "none", BUSYBOX, "true")


def _docker(arena: Arena, *arguments: str) -> Samples:
    return interleaved(
        (arena.floor, *arena.engines), arena.rounds, lambda engine: timed(lambda: engine.docker(*arguments))
    )


def execute(arena: Arena) -> Samples:
    """`docker exec` in a container that runs already."""
    boxes = {
        engine.name: engine.output("run", "-d", BUSYBOX, "sleep", "3600") for engine in arena.engines
    } | {"floor": "x"}
    try:
        return interleaved(
            (arena.floor, *arena.engines),
            arena.rounds,
            lambda engine: timed(lambda: engine.docker("exec", boxes[engine.name], "true")),
        )
    finally:
        for engine in arena.engines:
            engine.docker("rm", "-f", boxes[engine.name])


def one_life(api: Api) -> None:
    """Create, start, wait, remove."""
    path = "/containers/" + api.call("POST", "/containers/create", body=_TRUE)["Id"]
    api.call("POST", f"{path}/start")
    api.call("POST", f"{path}/wait")
    api.call("DELETE", path)


def one_client(arena: Arena) -> Samples:
    apis = {engine.name: engine.api() for engine in (arena.floor, *arena.engines)}
    return interleaved(
        (arena.floor, *arena.engines),
        arena.rounds,
        lambda engine: timed(lambda: one_life(apis[engine.name])),
        warm_up=2,
    )


def eight_clients(arena: Arena) -> Samples:
    """Containers per second; a sample is one burst of all clients."""

    def burst(engine: Contestant) -> float:
        lives = max(2, arena.rounds // 4) * (1 if engine is arena.docker else 3)
        failures: list[BaseException] = []

        def client() -> None:
            api = engine.api()
            try:
                for _ in range(lives):
                    one_life(api)
            except BaseException as error:
                failures.append(error)
            api.close()

        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return CLIENTS * lives / (time.perf_counter() - began)

    return interleaved(arena.engines, 3, burst, warm_up=0)


ROWS = (
    Row("run", "`docker run --rm busybox true`", "ms", False, Gate(5, guide=50), run),
    Row("run-none", "the same, `--net none`", "ms", False, Gate(4, guide=40), run_without_network),
    Row("api-1", "API: create, start, wait, remove", "ms", False, Gate(10, guide=24), one_client),
    Row("api-8", "the same, 8 clients at once", "/s", True, Gate(10, guide=80), eight_clients),
    Row("exec", "`docker exec … true`", "ms", False, Gate(2, guide=35), execute),
)
