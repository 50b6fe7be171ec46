"""What came out: verdicts, and the table as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.build.builders import Sample
from benchmarks.build.rows import Row

FLOOR = "floor"


class Verdict(NamedTuple):
    """One gate of a row."""

    demand: str
    found: str
    passed: bool


def milliseconds(samples: Sequence[Sample]) -> float:
    """The median."""
    return statistics.median(sample.milliseconds for sample in samples)


def processor(samples: Sequence[Sample]) -> float:
    """Milliseconds of the engine, the mean: the kernel counts in hundredths of a second."""
    return statistics.fmean(sample.engine for sample in samples)


def floor_of(samples: Sequence[Sample]) -> float:
    """The client's own time: what a build with the stub takes, without what the stub has used."""
    return milliseconds(samples) - processor(samples)


def verdicts(row: Row, peer: str, own: str) -> list[Verdict]:
    """Each gate of the row."""
    ratio = milliseconds(row.samples[peer]) / milliseconds(row.samples[own])
    demand = f"{row.ratio:g}×" if row.ratio >= 1 else "level"
    found = [Verdict(demand, f"{ratio:.2f}×", ratio >= row.ratio)]
    if row.above_floor is not None:
        above = milliseconds(row.samples[own]) - floor_of(row.samples[FLOOR])
        found.append(
            Verdict(f"floor + {row.above_floor:g} ms", f"floor + {above:.0f} ms", above <= row.above_floor)
        )
    if row.sent is not None and row.sent_at_most is not None:
        sent = row.sent[own]
        found.append(
            Verdict(f"≤ {row.sent_at_most / 1e6:.1f} MB sent", _megabytes(sent), sent <= row.sent_at_most)
        )
    return found


def passed(rows: Sequence[Row], peer: str, own: str) -> bool:
    """Whether every gate holds."""
    return all(verdict.passed for row in rows for verdict in verdicts(row, peer, own))


def table(rows: Sequence[Row], peer: str, own: str) -> str:
    """Markdown: medians with their range, the engine's processor time, bytes on the wire, and each gate."""
    names = list(dict.fromkeys(name for row in rows for name in row.samples))
    lines = [
        "| | " + " | ".join(names) + " | gates |",
        "| --- |" + " ---: |" * len(names) + " --- |",
    ]
    for row in rows:
        gates = "; ".join(
            f"{each.found} ({each.demand}) {'pass' if each.passed else '**fail**'}"
            for each in verdicts(row, peer, own)
        )
        cells = [_cell(row, name) for name in names]
        lines.append("| " + " | ".join([row.title, *cells, gates]) + " |")
    return "\n".join(lines)


def as_json(row: Row, peer: str, own: str) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "key": row.key,
        "title": row.title,
        "samples": {
            name: [[round(each.milliseconds, 1), round(each.engine)] for each in samples]
            for name, samples in row.samples.items()
        },
        "sent": row.sent,
        "gates": [verdict._asdict() for verdict in verdicts(row, peer, own)],
    }


def _cell(row: Row, name: str) -> str:
    samples = row.samples.get(name)
    if not samples:
        return ""
    took = sorted(sample.milliseconds for sample in samples)
    text = f"{milliseconds(samples):.0f} ms"
    if len(took) > 1:
        text += f" ({took[0]:.0f}–{took[-1]:.0f})"
    text += f", CPU {processor(samples):.0f}"
    if row.sent is not None and name in row.sent:
        text += f", {_megabytes(row.sent[name])}"
    return text


def _megabytes(bytes: int) -> str:
    return f"{bytes / 1e6:.2f} MB"
