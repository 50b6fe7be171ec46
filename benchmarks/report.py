"""What came out: the table, and the same as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.row import Row, Samples


def summary(row: Row, samples: Samples, peer: str) -> dict[str, Any]:
    """One row's figures and verdict; `ratio` is how many times better Sampan is, None where it has no meaning."""
    values = {name: _spread(measured) for name, measured in samples.items() if measured}
    own, other = values["sampan"]["median"], values[peer]["median"]
    better, worse = (own, other) if row.higher_is_better else (other, own)
    ratio = better / worse if worse else None
    # Nothing used by both is level; a peer's zero where Sampan uses something is a loss that has no ratio.
    level = (
        ratio >= row.gate.ratio if ratio is not None else not row.gate.ratio or own == other or better > worse
    )
    within = row.gate.limit is None or own <= row.gate.limit
    return {
        "key": row.key,
        "title": row.title,
        "unit": row.unit,
        "higher_is_better": row.higher_is_better,
        "values": values,
        "ratio": ratio,
        "gate": row.gate._asdict(),
        "passed": bool(level and within),
    }


def _spread(measured: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(measured)
    return {
        "median": statistics.median(ordered),
        "low": ordered[len(ordered) // 10],
        "high": ordered[-1 - len(ordered) // 10],
        "samples": [round(value, 3) for value in measured],
    }


def table(rows: Sequence[dict[str, Any]], peer: str) -> str:
    """Markdown: medians, the range from the tenth to the ninetieth percentile in brackets, ratio, gate, verdict."""
    lines = [
        f"| | {peer} | Sampan | floor | ratio | must reach | |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for row in rows:
        cells = [
            row["title"],
            _cell(row, peer),
            _cell(row, "sampan"),
            _cell(row, "floor"),
            f"{row['ratio']:.1f}" if row["ratio"] is not None else "",
            _gate(row),
            "pass" if row["passed"] else "**fail**",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: dict[str, Any], name: str) -> str:
    value = row["values"].get(name)
    if value is None:
        return ""
    text = f"{_number(value['median'])} {row['unit']}"
    if len(value["samples"]) > 1:
        text += f" ({_number(value['low'])}–{_number(value['high'])})"
    return text


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _gate(row: dict[str, Any]) -> str:
    gate = row["gate"]
    parts = []
    if gate["ratio"] >= 1:
        parts.append(f"{gate['ratio']:g}×")
    elif gate["ratio"]:
        parts.append("level")
    if gate["limit"] is not None:
        parts.append(f"≤ {gate['limit']:g} {row['unit']}")
    if gate["guide"] is not None:
        parts.append(f"({gate['guide']:g} {row['unit']})")
    return " ".join(parts)
