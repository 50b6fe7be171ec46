"""Say where two recorded outcomes of a scenario differ."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any

from parity.normal import words

_BY_CHANCE = re.compile(r"level=error msg=\"Can't (?:add file|close tar writer)")
"""What the docker CLI prints, or not, when the engine refuses an archive that it is still sending."""

DIFFERENCES = Path(__file__).parents[2] / "docs" / "differences.md"


def compare(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[str]:
    """Lines for a person: `-` is the peer's, `+` is Sampan's. [] when equal."""
    if [each["step"] for each in theirs] != [each["step"] for each in ours]:
        return ["  the steps are others than when it was recorded: record it again"]
    lines: list[str] = []
    for their, our in zip(_reworded(theirs), _reworded(ours), strict=True):
        if their != our:
            lines.append(f"  step: {their['step']}")
            lines.extend("    " + line for line in _difference(their, our))
    return lines


def _reworded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: item if name == "step" else _reworded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_reworded(item) for item in value if not (isinstance(item, str) and _BY_CHANCE.search(item))]
    return words(value) if isinstance(value, str) else value


def _difference(their: dict[str, Any], our: dict[str, Any]) -> list[str]:
    before, after = (
        json.dumps(each, indent=1, ensure_ascii=False, sort_keys=True).splitlines() for each in (their, our)
    )
    return [
        line
        for line in difflib.unified_diff(before, after, lineterm="", n=1)
        if not line.startswith(("---", "+++", "@@"))
    ]


def known_differences() -> dict[str, str]:
    """Scenario → reason, from the table rows of docs/differences.md whose first cell is a scenario's name in backquotes."""
    if not DIFFERENCES.exists():
        return {}
    rows = re.findall(r"^\| `([^`]+)` \|(.*)\|$", DIFFERENCES.read_text(), re.MULTILINE)
    return {key: reason.strip() for key, reason in rows}
