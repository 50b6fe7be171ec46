"""Build checks and subrequests, held against what BuildKit's own frontend said of the same Dockerfiles."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockerfile_asking import asked, build, told
from dockerfile_corpus import Case, answers, cases
from sampan.dockerfile.checks import CheckOptions, read_options
from sampan.dockerfile.rules import Rule

CASES = cases()
ANSWERS = answers()


@pytest.mark.parametrize("name", CASES)
def test_a_build_warns_as_buildkits_does(name: str) -> None:
    expected = ANSWERS[name]
    checks, error = build(CASES[name])
    findings = checks.findings if checks is not None else []
    assert [told(each) for each in findings] == expected["warnings"]
    assert bool(error) == bool(expected["error"]), error


OWN_WORDS = tuple(f"{name} frontend.lint" for name in ("bad copy", "bad variable", "unknown image"))
"""Where the mistake is said in words of ours: everything else is compared."""


@pytest.mark.parametrize("question", [each for each in ANSWERS if " frontend." in each])
def test_subrequests_are_answered_as_buildkits_are(question: str) -> None:
    expected = ANSWERS[question]
    name, _, request = question.rpartition(" ")
    found, error = asked(CASES[name], request)
    assert bool(error) == bool(expected["error"])
    if question in OWN_WORDS:
        for each in (found, expected["metadata"]):
            parsed = json.loads(each["result.json"])
            assert parsed["buildError"].pop("message")
            each["result.json"] = parsed
    assert found == expected["metadata"]


@pytest.mark.parametrize(
    ("name", "request_"), [("describe", "frontend.subrequests.describe"), ("nonsense", "frontend.nothing")]
)
def test_which_subrequests_there_are(name: str, request_: str) -> None:
    found, error = asked(Case("FROM busybox\n", {}, ""), request_)
    assert (found, error) == (ANSWERS[name]["metadata"], ANSWERS[name]["error"])


PIECES = (
    "FROM from ARG ENV COPY ADD RUN CMD EXPOSE WORKDIR ONBUILD USER LABEL busybox AS a A=1 $A ${A ${A:- $ --platform=$X --from=a"
    ' --mount=type=secret <<X X # \\ " \' [ ["a"] 80:1/TCP'
)
LINES = ("# check=skip=all", "# check=error", "\n", "\n", "\n")
WORDS = st.one_of(st.sampled_from((*PIECES.split(), *LINES)), st.text(max_size=4))


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=30).map(" ".join))
def test_whatever_stands_in_a_file_is_answered(text: str) -> None:
    for request in ("frontend.lint", "frontend.outline", "frontend.targets"):
        found, error = asked(Case(text, {}, ""), request)
        assert error or json.loads(found["result.json"])
        assert request != "frontend.lint" or not error


def test_options_of_checks_are_joined_where_an_instruction_says_more() -> None:
    wide = read_options("skip=A;experimental=B;error=true")
    assert wide.and_by(["words", "check = skip=C , D"]) == CheckOptions(
        frozenset({"A", "C"}), frozenset({"B"}), fails=True
    )
    assert wide.and_by(["check=skipp=all", "check=skip=all"]) == wide
    assert read_options("skip=all").does(Rule("Any", "", "")) is False
    assert read_options("experimental=all").does(Rule("Any", "", "", experimental=True)) is True
    assert read_options("").does(Rule("Any", "", "", experimental=True)) is False
