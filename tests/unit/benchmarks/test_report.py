"""Verdicts, table and picture of the benchmarks."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks import plot, report
from benchmarks.__main__ import ROWS
from benchmarks.row import Arena, Gate, Row, Samples


def _never(arena: Arena) -> Samples:
    raise AssertionError("not measured here")


def row(gate: Gate, *, higher_is_better: bool = False) -> Row:
    return Row("key", "`docker x` & more", "ms", higher_is_better, gate, _never)


def summary(gate: Gate, docker: float, sampan: float, *, higher_is_better: bool = False) -> dict[str, Any]:
    samples = {"docker.io": [docker], "sampan": [sampan]}
    return report.summary(row(gate, higher_is_better=higher_is_better), samples, "docker.io")


@pytest.mark.parametrize(
    ("gate", "docker", "sampan", "higher", "ratio", "passed"),
    [
        (Gate(5, guide=50), 250, 50, False, 5, True),
        (Gate(5, guide=50), 240, 50, False, 4.8, False),
        (Gate(10), 8, 80, True, 10, True),
        (Gate(10), 80, 8, True, 0.1, False),
        (Gate(), 100, 104, False, 100 / 104, True),
        (Gate(), 100, 120, False, 100 / 120, False),
        (Gate(limit=60), 90, 61, False, 90 / 61, False),
        (Gate(), 0, 0, False, None, True),
        (Gate(), 0.4, 0, False, None, True),
        (Gate(), 0, 0.4, False, 0, False),
        (Gate(ratio=0), 0, 20, False, 0, True),
    ],
)
def test_verdicts(
    gate: Gate, docker: float, sampan: float, higher: bool, ratio: float | None, passed: bool
) -> None:
    found = summary(gate, docker, sampan, higher_is_better=higher)
    assert found["ratio"] == (ratio if ratio is None else pytest.approx(ratio))
    assert found["passed"] is passed


def test_the_spread_leaves_out_a_tenth_at_each_end() -> None:
    samples = {"docker.io": [1.0], "sampan": [float(value) for value in range(20, 0, -1)]}
    spread = report.summary(row(Gate()), samples, "docker.io")["values"]["sampan"]
    assert (spread["low"], spread["median"], spread["high"]) == (3, 10.5, 18)


def test_the_table_names_what_failed() -> None:
    lines = report.table([summary(Gate(5, guide=50), 250, 51)], "docker.io").splitlines()
    assert lines[-1] == "| `docker x` & more | 250 ms | 51.0 ms |  | 4.9 | 5× (50 ms) | **fail** |"


@pytest.mark.parametrize("sampan", [0.001, 25, 1e6])
def test_the_picture_is_sound_whatever_the_ratio(sampan: float) -> None:
    rows = [summary(Gate(), 250, sampan), summary(Gate(), 0, 1), summary(Gate(ratio=0), 1, 1)]
    root = ElementTree.fromstring(plot.svg(rows, "docker.io"))
    width = float(root.attrib["width"])
    bars = [found for found in root.iter("{http://www.w3.org/2000/svg}rect") if "rx" in found.attrib]
    assert len(bars) == 1
    assert (
        0
        <= float(bars[0].attrib["x"])
        <= float(bars[0].attrib["x"]) + float(bars[0].attrib["width"])
        <= width
    )


def test_rows_are_told_apart_by_their_keys() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)
