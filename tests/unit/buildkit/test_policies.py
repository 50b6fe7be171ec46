"""Source policies, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.buildkit.policy_jobs import evaluated
from sampan.errors import Forbidden, InvalidParameter

GOLANG = "docker-image://docker.io/library/golang:1.19"


def rule(identifier: str, action: str = "DENY", kind: str = "", to: str = "", **more: Any) -> dict[str, Any]:
    """As protobuf's JSON leaves defaults out."""
    selector: dict[str, Any] = {"identifier": identifier, **more.pop("selector", {})}
    if kind:
        selector["matchType"] = kind
    made: dict[str, Any] = {"selector": selector, **more}
    if action != "ALLOW":
        made["action"] = action
    if to:
        made["updates"] = {"identifier": to}
    return made


def became(*rules: dict[str, Any], identifier: str = GOLANG, **attrs: str) -> dict[str, Any]:
    return evaluated([{"rules": list(rules)}], {"identifier": identifier, "attrs": attrs})


@pytest.mark.parametrize(
    ("identifier", "kind", "denied"),
    [
        (GOLANG, "EXACT", True),
        (GOLANG, "", True),
        ("*", "", True),
        ("docker-image://*", "EXACT", False),
        ("docker-image://docker.io/library/golang:*", "", True),
        ("docker-image://docker.io/library/golang", "", False),
        ("http://*", "", False),
        ("library/gol", "REGEX", True),
        ("^library", "REGEX", False),
        (r"golang:1\.\d+\z", "REGEX", True),
    ],
)
def test_selectors(identifier: str, kind: str, denied: bool) -> None:
    if denied:
        with pytest.raises(Forbidden, match="denied by policy: source denied by policy"):
            became(rule(identifier, kind=kind))
    else:
        assert became(rule(identifier, kind=kind))["identifier"] == GOLANG


def test_the_last_word_counts_within_a_policy_and_every_policy_must_allow() -> None:
    assert became(rule("*"), rule(GOLANG, "ALLOW"))["identifier"] == GOLANG
    with pytest.raises(Forbidden):
        became(rule(GOLANG, "ALLOW"), rule("*"))
    with pytest.raises(Forbidden):
        evaluated([{"rules": [rule("*", "ALLOW")]}, {"rules": [rule("*")]}], {"identifier": GOLANG})


@pytest.mark.parametrize(
    ("identifier", "kind", "to", "expected"),
    [
        ("docker-image://docker.io/library/golang:*", "WILDCARD", "docker-image://mirror/go:${1}-alpine", "docker-image://mirror/go:1.19-alpine"),
        ("docker-image://*/golang:*", "WILDCARD", "docker-image://$1/go:$2", "docker-image://docker.io/library/go:1.19"),
        (r"golang:(?P<v>\d+)\.(\d+)", "REGEX", "go:${v}_$2", "docker-image://docker.io/library/go:1_19"),
        (GOLANG, "EXACT", "docker-image://other:$1", "docker-image://other:$1"),
        ("docker-image://docker.io/*", "WILDCARD", "https://x/$$1", "https://x/$1"),
    ],
)  # fmt: skip
def test_conversions(identifier: str, kind: str, to: str, expected: str) -> None:
    assert became(rule(identifier, "CONVERT", kind, to))["identifier"] == expected


def test_a_conversion_sets_attributes_and_what_comes_out_is_looked_at_again() -> None:
    pin = {**rule("https://a/b", "CONVERT"), "updates": {"attrs": {"http.checksum": "sha256:1"}}}
    assert became(pin, identifier="https://a/b", x="y") == {
        "identifier": "https://a/b",
        "attrs": {"x": "y", "http.checksum": "sha256:1"},
    }
    with pytest.raises(Forbidden, match="evil"):
        became(rule(GOLANG, "CONVERT", to="docker-image://evil"), rule("docker-image://evil"))
    with pytest.raises(InvalidParameter, match="too many"):
        became(rule("docker-image://*", "CONVERT", to="docker-image://x$1"))


def test_attributes_are_conditions() -> None:
    def denied(key: str, value: str, condition: str = "") -> bool:
        constraint = {"key": key, "value": value, **({"condition": condition} if condition else {})}
        try:
            became(rule("*", selector={"constraints": [constraint]}), a="bcd")
        except Forbidden:
            return True
        return False

    assert denied("a", "bcd") and not denied("a", "x") and denied("other", "")
    assert denied("a", "x", "NOTEQUAL") and not denied("a", "bcd", "NOTEQUAL")
    assert denied("a", "^b.d", "MATCHES") and not denied("a", "^c", "MATCHES")


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "DENY"},
        rule("*", "CONVERT"),
        rule("**"),
        rule("(", kind="REGEX"),
        rule("(?=x)", kind="REGEX"),
        rule(r"[[:alpha:]]", kind="REGEX"),
        rule("x", kind="7"),
        rule(GOLANG, "9"),
    ],
)
def test_policies_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        became(wrong)


@given(st.text(), st.text(), st.sampled_from(["EXACT", "REGEX", "WILDCARD"]), st.text())
def test_any_text_is_answered(identifier: str, to: str, kind: str, source: str) -> None:
    try:
        became(rule(identifier, "CONVERT", kind, to or "x"), identifier=source)
    except (Forbidden, InvalidParameter):
        pass
