"""Sampan against the recorded answers of the current dockerd: one test per scenario file."""

from __future__ import annotations

import os

import pytest

from parity import engines, scenario
from parity.compare import known_differences
from parity.players import play_all
from parity.verdict import Judge

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def judge() -> Judge:
    """Everything played once, several engines side by side."""
    judge = Judge()
    play_all(engines.OURS, scenario.load(), os.cpu_count() or 2, judge.hear)
    return judge


@pytest.mark.parametrize("file", sorted({each.file for each in scenario.load()}))
def test_answers_are_dockerds(judge: Judge, file: str) -> None:
    wrong = [str(each) for each in judge.findings if each.key.startswith(f"{file}: ")]
    assert not wrong, "\n".join(wrong)


def test_every_row_of_the_differences_names_a_scenario() -> None:
    keys = {each.key for each in scenario.load()}
    assert not set(known_differences()) - keys
