"""Several rooms with an engine each, which share the scenarios among them."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from parity import engines
from parity.scenario import Scenario

ROOM = Path(__file__).parent / "room.sh"
Outcome = list[dict[str, Any]]


def play_all(
    engine: str,
    scenarios: Sequence[Scenario],
    rooms: int,
    done: Callable[[Scenario, Outcome], None] | None = None,
) -> dict[str, Outcome]:
    """The outcome of each scenario by its key. `done` is called with each as it comes, one at a time.

    Raises RuntimeError when a player ends early.
    """
    engines.prepare(engine)
    waiting: queue.SimpleQueue[Scenario] = queue.SimpleQueue()
    for each in scenarios:
        waiting.put(each)
    company = _Company(engine, waiting, done)
    threads = [threading.Thread(target=company.room) for _ in range(min(rooms, len(scenarios)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if company.failures:
        raise RuntimeError("\n".join(company.failures))
    return company.outcomes


class _Company:
    def __init__(
        self,
        engine: str,
        waiting: queue.SimpleQueue[Scenario],
        done: Callable[[Scenario, Outcome], None] | None,
    ) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.failures: list[str] = []
        self._engine = engine
        self._waiting = waiting
        self._done = done
        self._lock = threading.Lock()

    def room(self) -> None:
        """One room until no scenario waits."""
        player = subprocess.Popen(
            [str(ROOM), sys.executable, "-m", "parity.player", self._engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert player.stdin and player.stdout
        try:
            while not self.failures:
                try:
                    scenario = self._waiting.get_nowait()
                except queue.Empty:
                    break
                player.stdin.write(scenario.key + "\n")
                player.stdin.flush()
                answer = player.stdout.readline()
                if not answer:
                    self.failures.append(f"the player of {self._engine} ended at {scenario.key}")
                    break
                self._keep(scenario, json.loads(answer))
            player.stdin.close()
            player.wait(60)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.failures.append(f"the player of {self._engine}: {error}")
        finally:
            player.kill()  # and with it everything in the room
            player.wait()
            player.stdout.close()

    def _keep(self, scenario: Scenario, answer: dict[str, Any]) -> None:
        with self._lock:
            self.outcomes[scenario.key] = answer["outcome"]
            if answer["complaint"]:
                print(
                    f"{scenario.key}: {self._engine} was replaced after it: {answer['complaint']}", flush=True
                )
            if self._done:
                self._done(scenario, answer["outcome"])
