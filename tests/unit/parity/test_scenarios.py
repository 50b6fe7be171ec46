"""The parity suite's own promises: what is kept fits the scenarios, and normalising twice is normalising once."""

from __future__ import annotations

import json

import pytest

from parity import recordings, scenario
from parity.compare import compare, known_differences
from parity.normal import Normaliser, words
from parity.verdict import MODEL


def test_every_scenario_has_dockerds_answer_to_its_present_steps() -> None:
    stale = []
    for each in scenario.load():
        if each.peers and MODEL not in each.peers:
            continue
        outcome = recordings.recorded(MODEL, each.file).get(each.title) or []
        if [step["step"] for step in outcome] != [step.text for step in each.steps]:
            stale.append(each.key)
    assert not stale, f"bin/test parity missing {MODEL}"


def test_every_declared_difference_is_kept_and_nothing_else() -> None:
    declared = {each.key for each in scenario.load()} & set(known_differences())
    kept = {
        f"{path.stem}: {title}"
        for path in (recordings.DIRECTORY / "sampan").glob("*.json")
        for title in json.loads(path.read_text())
    }
    assert declared == kept, "bin/test parity accept"


@pytest.mark.parametrize(
    "path", sorted((recordings.DIRECTORY / MODEL).glob("*.json")), ids=lambda each: each.stem
)
def test_words_are_settled(path) -> None:  # type: ignore[no-untyped-def]
    once = words(path.read_text())
    assert words(once) == once


def test_values_that_differ_from_run_to_run_are_named_by_their_order() -> None:
    normalise = Normaliser()
    one, other = "a1" * 32, "b2" * 32
    assert normalise(f"{one} {other} {one[:12]}") == "<id 1> <id 2> <short id 1>"
    assert normalise("2024-01-02T03:04:05.678Z at 172.31.255.7") == "<time> at <net>.<host>"


def test_a_difference_is_told_by_its_step() -> None:
    theirs = [{"step": "docker ps", "exit": 0, "out": ["a"], "err": []}]
    assert compare(theirs, theirs) == []
    lines = compare(theirs, [{**theirs[0], "exit": 1}])
    assert lines[0] == "  step: docker ps" and any("+" in line and "1" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "steady"),
    [
        ("docker run -d --name cc busybox sleep 100", True),
        ("docker run -d busybox sleep 1", False),
        ("sleep 0.3; docker ps", False),
        ("docker start cc & docker wait cc", False),
        ("docker start cc && docker wait cc", True),
        ("docker run busybox sh -c 'echo x >&2'", True),
        ("hijack /containers/cc/attach", False),
    ],
)
def test_what_hangs_on_time(text: str, steady: bool) -> None:
    step = scenario.Step("$", text, ())
    assert scenario.Scenario("file", "title", (), (step,)).steady is steady
