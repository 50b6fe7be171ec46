"""kill -9 at random moments of random verbs: the engine, and separately the fork server, a worker, a shim.

`bin/test faults --rounds 300 --seed 7`; the seed is printed, so that a failure can be looked at again (as far as timing repeats).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial

import pytest

from engine_audit import assert_settled, processes
from faults.world import World
from running_engine import RunningEngine

pytestmark = pytest.mark.root

VICTIMS = ("engine", "engine", "engine", "zygote", "worker", "shim", "spare")
LONGEST = 0.25
"""Seconds after the beginning of a verb until the blow falls, at most: longer than most verbs take."""


@pytest.fixture
def world(request: pytest.FixtureRequest, make_engine: Callable[..., RunningEngine], tmp_path) -> World:  # type: ignore[no-untyped-def]
    seed = request.config.getoption("--seed")
    print(f"seed {seed}")
    return World(make_engine(), seed, tmp_path)


@pytest.mark.timeout(7200)
def test_killed_at_random(world: World, request: pytest.FixtureRequest) -> None:
    rounds = request.config.getoption("--rounds")
    said: list[str] = []
    for number in range(rounds):
        victim = world.random.choice(VICTIMS)
        verb = world.random.choice(world.verbs())
        delay = world.random.random() * LONGEST
        said.append(f"round {number}: {victim} killed {delay * 1000:.0f} ms into {verb.__name__}")
        try:
            died_of = world.interrupt(verb, partial(_strike, world, victim, delay))
            said[-1] += f" ({died_of or 'done'})"
            if victim == "engine":
                assert world.engine.wait_dead(10)
                world.engine.start()
            world.settle()
            world.check()
            assert_settled(world.engine, seen=world.seen)
            if number % 20 == 19:
                world.check_whole_log()
                world.use_images()
        except BaseException:
            print("\n".join(said[-12:]))
            print("--- engine log\n" + world.engine.log[-4000:])
            raise
    world.check_whole_log()


def _strike(world: World, victim: str, delay: float) -> None:
    if victim == "worker":
        _kill_worker(world, delay)
        return
    time.sleep(delay)
    if victim == "engine":
        world.engine.kill()
    elif victim == "shim":
        world.lose_a_shim()
    elif found := _of(world, victim):
        _kill(world.random.choice(found))


def _kill_worker(world: World, delay: float) -> None:
    """The first one that is seen; verbs without one go undisturbed."""
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        if found := _of(world, "worker"):
            time.sleep(delay / 20)
            _kill(found[0])
            return
        time.sleep(0.002)


def _of(world: World, victim: str) -> list[int]:
    """The fork server, workers at work, or shims that wait for a container."""
    found = processes(world.engine)
    if victim == "spare":
        shims = world.shims().values()
        return [pid for pid, each in found.items() if each.name == "sampan-shim" and pid not in shims]
    return [pid for pid, each in found.items() if each.name == f"sampan-{victim}"]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has just ended
