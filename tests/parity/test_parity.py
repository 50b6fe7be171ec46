"""Sampan against the recorded answers of the current dockerd, where they do not hang on time: one test per scenario file.

`bin/test parity` compares all, and counts.
"""

from __future__ import annotations

import os
import subprocess

import pytest

import turns
from parity import engines, scenario
from parity.compare import known_differences
from parity.players import play_all
from parity.verdict import Judge

SCENARIOS = [each for each in scenario.load() if each.steady and each.key not in known_differences()]
"""Those that watch the clock and those that differ on purpose are compared by `bin/test parity`."""

RECORDED_WITH = 28
"""Major version of the docker CLI whose output the recordings hold."""

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def judge(pytestconfig: pytest.Config) -> Judge:
    """Everything (`--share`: a part) played once, several engines side by side."""
    client = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=True).stdout
    if f"version {RECORDED_WITH}." not in client:
        pytest.skip(
            f"recorded with the docker CLI {RECORDED_WITH}, whose words are not those of {client.strip()}"
        )
    judge = Judge()
    play_all(engines.OURS, turns.chosen(pytestconfig, SCENARIOS), (os.cpu_count() or 2) + 1, judge.hear)
    return judge


@pytest.mark.parametrize("file", sorted({each.file for each in SCENARIOS}))
def test_answers_are_dockerds(judge: Judge, file: str) -> None:
    wrong = [str(each) for each in judge.findings if each.key.startswith(f"{file}: ")]
    assert not wrong, "\n".join(wrong)


def test_every_row_of_the_differences_names_a_scenario() -> None:
    keys = {each.key for each in scenario.load()}
    assert not set(known_differences()) - keys
