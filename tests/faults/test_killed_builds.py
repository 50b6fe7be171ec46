"""kill -9 of the engine at random moments of a build: no step whose end was told is lost, and nothing is left over."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from engine_audit import assert_settled
from graph_builder import build, context
from running_engine import RunningEngine
from sampan.errors import SampanError

pytestmark = pytest.mark.root

STEPS = 6


def dockerfile(number: int) -> str:
    """Steps one after the other, and beside them some that nobody waits for as long."""
    chain = "".join(f"RUN head -c 100000 /dev/urandom > /r{step}  # {number}\n" for step in range(STEPS))
    side = (
        f"FROM busybox AS side\nRUN head -c 100000 /dev/urandom > /side; sleep 0.1  # {number}\nCOPY word /\n"
    )
    return f"{side}FROM busybox\nCOPY word /\n{chain}COPY --from=side /side /\n"


def follow(engine: RunningEngine, archive: bytes, told: list[dict[str, Any]], begun: threading.Event) -> None:
    """Build until the engine is gone; what it told."""
    try:
        with engine.client() as client:
            query = {"version": "2", "trace": "json", "t": ["built"]}
            for message in client.api.request("POST", "/build", query, archive).json_stream():
                if message.get("id") == "sampan.build.trace":
                    told.append(message["aux"])
                    begun.set()
    except (SampanError, OSError, ValueError, EOFError):
        pass
    finally:
        begun.set()


def finished(told: list[dict[str, Any]]) -> set[str]:
    """The names of the steps whose end was told."""
    return {
        each["name"].rpartition("] ")[2]
        for each in told
        if each["kind"] == "vertex" and each["completed"] and not each["error"] and "] RUN" in each["name"]
    }


@pytest.mark.timeout(3600)
def test_finished_steps_stay(
    request: pytest.FixtureRequest, make_engine: Callable[..., RunningEngine]
) -> None:
    seed, rounds = request.config.getoption("--seed"), max(1, request.config.getoption("--rounds") // 10)
    print(f"seed {seed}")
    chance = random.Random(seed)
    engine = make_engine()
    for number in range(rounds):
        archive = context(dockerfile(number), {"word": "copied"})
        told: list[dict[str, Any]] = []
        begun, delay = threading.Event(), chance.random()
        client = threading.Thread(target=follow, args=(engine, archive, told, begun))
        client.start()
        assert begun.wait(20)
        threading.Event().wait(delay)
        engine.kill()
        client.join(20)
        engine.start()
        again = build(engine, dockerfile(number), {"word": "copied"})
        lost = finished(told) & set(again.ran())
        assert not lost, f"round {number}, killed after {delay:.3f} s: {lost}\n{json.dumps(told)}"
        assert build(engine, dockerfile(number), {"word": "copied"}).image == again.image
        assert_settled(engine)
        assert os.listdir(engine.data_root / "build") == []
    engine.docker("rmi", "built")
    engine.docker("builder", "prune", "-af")
    assert os.listdir(engine.data_root / "solver" / "kept") == []
    with engine.client() as asking:
        assert asking.api.request("GET", "/system/df").json()["BuildCache"] in (None, [])
