"""The ratios as a picture: one bar a row on a logarithmic axis, Docker at 1. SVG, written by hand: no plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

_WIDTH, _LABELS, _RIGHT = 860, 330, 150
_ROW, _TOP, _BOTTOM = 26, 46, 34
_GOOD, _BAD, _INK, _FAINT = "#1f7a5c", "#b3532f", "#24292f", "#c9d1d9"


def svg(rows: Sequence[dict[str, Any]], peer: str) -> str:
    """A picture of the rows that have a ratio; dark text on white, so that it reads in both of a forge's themes."""
    shown = [row for row in rows if row["ratio"] and row["gate"]["ratio"]]
    ratios = [min(max(row["ratio"], 0.1), 1000) for row in shown]
    most, least = max([10.0, *ratios]), min([0.5, *ratios])
    low, high = math.log10(least), math.log10(most) + 0.05
    height = _TOP + _ROW * len(shown) + _BOTTOM

    def x(ratio: float) -> float:
        return _LABELS + (math.log10(ratio) - low) / (high - low) * (_WIDTH - _LABELS - _RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 24, f"Sampan against {peer}: how many times better", weight="bold", size=15),
    ]
    for tick in _ticks(least, most):
        parts.append(
            f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP - 8}" y2="{height - _BOTTOM}" '
            f'stroke="{_INK if tick == 1 else _FAINT}"/>'
        )
        parts.append(_text(x(tick), height - _BOTTOM + 18, f"{tick:g}×", anchor="middle", size=12))
    for number, (row, ratio) in enumerate(zip(shown, ratios, strict=True)):
        middle = _TOP + _ROW * number + _ROW / 2
        start, end = sorted((x(1), x(ratio)))
        color = _GOOD if row["passed"] else _BAD
        parts.append(_text(_LABELS - 12, middle + 4, row["title"].replace("`", ""), anchor="end"))
        parts.append(
            f'<rect x="{start:.1f}" y="{middle - 8:.1f}" width="{max(end - start, 1):.1f}" height="16" rx="2" fill="{color}"/>'
        )
        own, other = row["values"]["sampan"]["median"], row["values"][peer]["median"]
        note = f"{row['ratio']:.1f}×  {own:.3g} / {other:.3g} {row['unit']}"
        parts.append(_text(end + 8, middle + 4, note, size=12))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ticks(least: float, most: float) -> list[float]:
    candidates = [digit * 10**power for power in range(-2, 4) for digit in (1, 2, 5)]
    return [tick for tick in candidates if least <= tick <= most]


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", size: int = 13
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" '
        f'fill="{_INK}">{escape(text)}</text>'
    )
