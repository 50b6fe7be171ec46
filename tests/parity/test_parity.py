"""Sampan against the recorded answers of the current dockerd: one test per scenario file.

Not part of the default run: `pytest tests/parity`, as root, takes some minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parity import scenario
from parity.__main__ import recorded
from parity.compare import compare, known_differences
from parity.playing import play
from running_engine import RunningEngine

PEER = "dockerd"

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of an engine for all files."""
    engine = RunningEngine(Path(tmp_path_factory.mktemp("parity-engine")))
    engine.start()
    try:
        yield str(engine.socket)
    finally:
        engine.close()


def recorded_files() -> list[str]:
    """The scenario files that have been played on the peer."""
    return sorted({each.file for each in scenario.load() if recorded(PEER, each.file)})


@pytest.mark.parametrize("file", recorded_files())
def test_answers_are_dockerds(socket: str, file: str) -> None:
    answers, known = recorded(PEER, file), known_differences()
    wrong: list[str] = []
    for each in scenario.load():
        if each.file != file or each.title not in answers:
            continue
        differences = compare(answers[each.title], play(each, socket))
        if differences and each.key not in known:
            wrong += [f"## {each.key}", *differences]
        elif not differences and each.key in known:
            wrong.append(f"## {each.key}: equal to Docker's now; its row in docs/differences.md is stale")
    assert not wrong, "\n".join(wrong)


def test_every_row_of_the_differences_names_a_scenario() -> None:
    keys = {each.key for each in scenario.load()}
    assert not set(known_differences()) - keys
