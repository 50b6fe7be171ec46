"""Build arguments and environment."""

from __future__ import annotations

from sampan.frontend.variables import Variables, platform_arguments
from sampan.names.platform import Platform


def test_an_argument_counts_from_its_declaration_and_the_environment_wins() -> None:
    variables = Variables({"A": "given", "B": "unused"}, {"OUTER": "outer"})
    assert dict(variables.lookup(["E=env"])) == {"E": "env"}
    variables.declare("A", "default")
    variables.declare("C", "default")
    variables.declare("D", None)
    variables.declare("OUTER", None)
    found = variables.lookup(["C=env"])
    assert (found["A"], found["C"], found["OUTER"], found.get("D")) == ("given", "env", "outer", None)
    assert variables.consumed == {"A"}


def test_a_run_sees_arguments_and_proxies_and_only_arguments_identify_it() -> None:
    variables = Variables({"A": "1", "http_proxy": "http://p", "no_proxy": None}, {})
    variables.declare("A", None)
    assert variables.for_run([]) == ["A=1", "http_proxy=http://p"]
    assert variables.identity([]) == ["A=1"]
    assert variables.identity(["A=env"]) == []
    assert "http_proxy" in variables.consumed


def test_platforms() -> None:
    arguments = platform_arguments(Platform("linux", "amd64"), Platform("linux", "arm", "v7"), "")
    assert arguments["TARGETPLATFORM"] == "linux/arm/v7" and arguments["BUILDPLATFORM"] == "linux/amd64"
    assert (arguments["TARGETVARIANT"], arguments["TARGETSTAGE"]) == ("v7", "default")


def test_an_argument_that_is_declared_again_without_a_value_keeps_its_own() -> None:
    variables = Variables({}, {"KNOWN": "k"})
    assert variables.declare("A", "1") == "1"
    assert variables.declare("A", None) is None
    assert variables.value("A") == "1"
    assert variables.declare("KNOWN", "own") == "own"
    assert variables.declare("KNOWN", None) == "k"
