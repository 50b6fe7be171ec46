"""A row of the table: what is measured, how, and what it must reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.contestants import Contestant, Docker, Sampan
from benchmarks.material import Material

if TYPE_CHECKING:
    from benchmarks.footprint import Crowd

LEVEL = 0.95
"""The ratio that counts as level: two equal things differ by some percent from run to run."""

Samples = Mapping[str, list[float]]
"""Measured values by contestant's name."""


class Arena(NamedTuple):
    """What every measurement gets."""

    sampan: Sampan
    docker: Docker
    floor: Contestant
    material: Material
    rounds: int
    """How often a short thing is measured on each contestant."""
    megabytes: int
    """How much goes through a log."""
    crowd: int
    """How many containers run at once where many do."""
    crowds: Mapping[str, Crowd]
    """Containers that sleep, by contestant's name."""

    @property
    def engines(self) -> tuple[Contestant, Contestant]:
        return (self.docker, self.sampan)


class Gate(NamedTuple):
    """What Sampan must reach."""

    ratio: float = LEVEL
    """How many times better than Docker, at least; 0 for no such demand."""
    limit: float | None = None
    """A bound on Sampan's own median, in the row's unit, where DESIGN.md sets one that no machine excuses."""
    guide: float | None = None
    """The value that DESIGN.md expects on the machine that it was written on; shown, not enforced."""


class Row(NamedTuple):
    key: str
    title: str
    unit: str
    higher_is_better: bool
    gate: Gate
    measure: Callable[[Arena], Samples]


def timed(action: Callable[[], object]) -> float:
    """Milliseconds that a call takes."""
    before = time.perf_counter()
    action()
    return (time.perf_counter() - before) * 1e3


def interleaved(
    contestants: tuple[Contestant, ...], rounds: int, once: Callable[[Contestant], float], *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Measure A B A B …, so that whatever else the machine does meets both alike."""
    samples: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(warm_up + rounds):
        for contestant in contestants:
            value = once(contestant)
            if number >= warm_up:
                samples[contestant.name].append(value)
    return samples
