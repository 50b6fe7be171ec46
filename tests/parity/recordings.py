"""The kept answers, one JSON file per scenario file below `recordings/<who>/`.

Of a peer they are what it answered. Of `sampan` they are its answers to the scenarios of docs/differences.md: what was declared is
kept too, so that a deliberate difference cannot turn into another one unseen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parity import scenario

DIRECTORY = Path(__file__).parent / "recordings"
Outcome = list[dict[str, Any]]


def recorded(who: str, file: str) -> dict[str, Outcome]:
    """The answers to one scenario file, by title."""
    path = DIRECTORY / who / f"{file}.json"
    answers: dict[str, Outcome] = json.loads(path.read_text()) if path.exists() else {}
    return answers


def keep(who: str, played: scenario.Scenario, outcome: Outcome) -> None:
    """Write one answer down, and drop those whose scenario is gone."""
    known = {each.title for each in scenario.load() if each.file == played.file}
    answers = recorded(who, played.file) | {played.title: outcome}
    _write(who, played.file, {title: answer for title, answer in answers.items() if title in known})


def forget(who: str, keys: set[str]) -> None:
    """Drop the answers to these scenarios."""
    for file in {key.partition(": ")[0] for key in keys}:
        answers = recorded(who, file)
        _write(who, file, {title: each for title, each in answers.items() if f"{file}: {title}" not in keys})


def _write(who: str, file: str, answers: dict[str, Outcome]) -> None:
    path = DIRECTORY / who / f"{file}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if answers:
        path.write_text(json.dumps(dict(sorted(answers.items())), indent=0, ensure_ascii=False) + "\n")
    else:
        path.unlink(missing_ok=True)
