"""What Sampan's answers are worth, against the answers of each peer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from parity.compare import compare, known_differences
from parity.peers import PEERS
from parity.recordings import Outcome, recorded
from parity.scenario import Scenario

MODEL = "dockerd"
"""The peer that Sampan follows where they differ among themselves."""


class Verdict(Enum):
    """The columns of the count."""

    SAME = "same"
    DECLARED = "declared"
    FOLLOWS = f"as {MODEL}"
    DIFFERENT = "different"


class Finding(NamedTuple):
    """One scenario that is not as it should be."""

    key: str
    lines: list[str]

    def __str__(self) -> str:
        return "\n".join([f"## {self.key}", *self.lines])


class Judge:
    """Counts verdicts; `findings` are what has to be mended."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._known = known_differences()
        self._counts: dict[str, Counter[Verdict]] = {
            peer: Counter() for peer in (MODEL, *(each for each in PEERS if each != MODEL))
        }

    def hear(self, scenario: Scenario, ours: Outcome) -> None:
        """Take one outcome of Sampan's into account."""
        answers = {
            peer: recorded(peer, scenario.file).get(scenario.title)
            for peer in PEERS
            if not scenario.peers or peer in scenario.peers
        }
        lines = self._hear_model(scenario, answers.get(MODEL), ours) if MODEL in answers else []
        if lines:
            self.findings.append(Finding(scenario.key, lines))
        for peer, theirs in answers.items():
            if peer != MODEL and theirs is not None:
                self._counts[peer][self._among(scenario, theirs, answers.get(MODEL), ours)] += 1

    def _hear_model(self, scenario: Scenario, theirs: Outcome | None, ours: Outcome) -> list[str]:
        """Lines about what is wrong with the outcome."""
        count = self._counts[MODEL]
        if theirs is None:
            count[Verdict.DIFFERENT] += 1
            return [f"  not recorded yet: bin/test parity record {MODEL} '{scenario.key}'"]
        differences = compare(theirs, ours)
        declared = scenario.key in self._known
        count[Verdict.SAME if not differences else Verdict.DECLARED if declared else Verdict.DIFFERENT] += 1
        if not declared:
            return differences
        if not differences:
            return [f"  equal to {MODEL}'s now: its row in docs/differences.md is stale"]
        accepted = recorded("sampan", scenario.file).get(scenario.title)
        if accepted is None:
            return [
                f"  declared, but not accepted yet: bin/test parity accept '{scenario.key}'",
                *differences,
            ]
        drift = compare(accepted, ours)
        return ["  another difference than the declared one (- accepted, + now):", *drift] if drift else []

    def _among(self, scenario: Scenario, theirs: Outcome, model: Outcome | None, ours: Outcome) -> Verdict:
        if not compare(theirs, ours):
            return Verdict.SAME
        if model is not None and not compare(model, ours):
            return Verdict.FOLLOWS
        return Verdict.DECLARED if scenario.key in self._known else Verdict.DIFFERENT

    def table(self) -> str:
        """The counts, a line per peer."""
        columns = ["scenarios", *(each.value for each in Verdict)]
        lines = [f"{'peer':<10}" + "".join(f"{column:>13}" for column in columns)]
        for peer, count in self._counts.items():
            numbers: Iterable[int] = [count.total(), *(count[each] for each in Verdict)]
            lines.append(f"{peer:<10}" + "".join(f"{number:>13}" for number in numbers))
        return "\n".join(lines)
