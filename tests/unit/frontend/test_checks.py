"""Build checks and subrequests, held against what BuildKit's own frontend said of the same Dockerfiles."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockerfile_corpus import IMAGES, Case, answers, cases
from sampan.dockerfile.checks import CheckOptions, Checks, checks_of, read_options, read_with
from sampan.dockerfile.ignore import patterns_of
from sampan.dockerfile.rules import Rule
from sampan.dockerfile.source import DockerfileError
from sampan.errors import NotFound, SampanError
from sampan.frontend.interface import Base, Options
from sampan.frontend.lower import lower
from sampan.frontend.subrequests import Question, answer
from sampan.names.platform import Platform
from sampan.oci.image import parse_config

AMD64 = Platform("linux", "amd64")
CASES = cases()
ANSWERS = answers()


class Images:
    """Those of the corpus."""

    async def image(self, name: str, platform: Platform) -> Base:
        if name.partition(":")[0] not in IMAGES:
            raise NotFound(f"no such image: {name}")
        config = parse_config(json.dumps(IMAGES[name.partition(":")[0]]).encode())
        return Base(f"docker.io/library/{name}@sha256:{'2' * 64}", config, platform)


def options(case: Case) -> Options:
    arguments = {
        name.removeprefix("build-arg:"): value
        for name, value in case.options.items()
        if name.startswith("build-arg:")
    }
    return Options(
        platform=AMD64,
        build_platform=AMD64,
        target=case.options.get("target", ""),
        arguments=arguments,
        ignored=tuple(patterns_of(case.ignore)),
    )


def build(case: Case) -> tuple[Checks | None, str]:
    """What was found, and what failed."""
    checks = None
    try:
        checks = checks_of(case.text, case.options.get("build-arg:BUILDKIT_DOCKERFILE_CHECK"))
        asyncio.run(lower(read_with(checks, case.text), options(case), Images(), checks))
    except (DockerfileError, NotFound) as error:
        return checks, error.message if isinstance(error, DockerfileError) else str(error)
    return checks, ""


def told(finding: Any) -> dict[str, Any]:
    return {
        "short": finding.short,
        "detail": [finding.rule.description],
        "url": finding.rule.url,
        "level": 1,
        "lines": list(range(finding.place.first, finding.place.last + 1)),
    }


@pytest.mark.parametrize("name", CASES)
def test_a_build_warns_as_buildkits_does(name: str) -> None:
    expected = ANSWERS[name]
    checks, error = build(CASES[name])
    findings = checks.findings if checks is not None else []
    assert [told(each) for each in findings] == expected["warnings"]
    assert bool(error) == bool(expected["error"]), error


def asked(name: str, request: str) -> tuple[dict[str, str], str]:
    """The answer's parts, and what failed."""
    case = CASES.get(name, Case("FROM busybox\n", {}, ""))
    question = Question("Dockerfile", case.text.encode(), options(case), Images())
    try:
        found = asyncio.run(answer(request, question))
    except SampanError as error:
        return {}, str(error)
    return {key: value.decode() for key, value in found.items()}, ""


OWN_WORDS = tuple(f"{name} frontend.lint" for name in ("bad copy", "bad variable", "unknown image"))
"""Where the mistake is said in words of ours: everything else is compared."""


@pytest.mark.parametrize("question", [each for each in ANSWERS if " frontend." in each])
def test_subrequests_are_answered_as_buildkits_are(question: str) -> None:
    expected = ANSWERS[question]
    name, _, request = question.rpartition(" ")
    found, error = asked(name, request)
    assert bool(error) == bool(expected["error"])
    if question in OWN_WORDS:
        for each in (found, expected["metadata"]):
            told = json.loads(each["result.json"])
            assert told["buildError"].pop("message")
            each["result.json"] = told
    assert found == expected["metadata"]


@pytest.mark.parametrize(
    ("name", "request_"), [("describe", "frontend.subrequests.describe"), ("nonsense", "frontend.nothing")]
)
def test_which_subrequests_there_are(name: str, request_: str) -> None:
    found, error = asked("", request_)
    assert (found, error) == (ANSWERS[name]["metadata"], ANSWERS[name]["error"])


WORDS = st.sampled_from(
    [
        *(
            "FROM",
            "from",
            "ARG",
            "ENV",
            "COPY",
            "ADD",
            "RUN",
            "CMD",
            "EXPOSE",
            "WORKDIR",
            "ONBUILD",
            "USER",
            "LABEL",
        ),
        *(
            "busybox",
            "AS",
            "a",
            "A=1",
            "$A",
            "${A",
            "${A:-",
            "$",
            "--platform=$X",
            "--from=a",
            "--mount=type=secret",
        ),
        *(
            "<<X",
            "X",
            "#",
            "# check=skip=all",
            "# check=error",
            "\\",
            "\n",
            "\n",
            "\n",
            '"',
            "'",
            "[",
            '["a"]',
            "80:1/TCP",
        ),
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(WORDS, st.text(max_size=4)), max_size=30).map(" ".join))
def test_whatever_stands_in_a_file_is_answered(text: str) -> None:
    question = Question("Dockerfile", text.encode(errors="replace"), options(Case("", {}, "")), Images())
    for request in ("frontend.lint", "frontend.outline", "frontend.targets"):
        try:
            found = asyncio.run(answer(request, question))
        except (DockerfileError, NotFound):
            assert request != "frontend.lint"
        else:
            json.loads(found["result.json"])


def test_options_of_checks_are_joined_where_an_instruction_says_more() -> None:
    wide = read_options("skip=A;experimental=B;error=true")
    assert wide.and_by(["words", "check = skip=C , D"]) == CheckOptions(
        frozenset({"A", "C"}), frozenset({"B"}), fails=True
    )
    assert wide.and_by(["check=skipp=all", "check=skip=all"]) == wide
    assert read_options("skip=all").does(Rule("Any", "", "")) is False
    assert read_options("experimental=all").does(Rule("Any", "", "", experimental=True)) is True
    assert read_options("").does(Rule("Any", "", "", experimental=True)) is False
