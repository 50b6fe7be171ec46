"""Tables, words, detach keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cli.table import Format, align
from sampan.cli.terminal import DetachWatch, parse_keys
from sampan.cli.words import ports
from sampan.errors import InvalidParameter

HEADERS = {"ID": "CONTAINER ID", "Names": "NAMES"}
RECORDS = [
    {"ID": "abc", "Names": "web", "_labels": {"a": "1"}},
    {"ID": "d", "Names": "a-long-name", "_labels": {}},
]


def render(format: str) -> str:
    return Format(format, "table {{.ID}}\t{{.Names}}", HEADERS, "ContainerContext").render(RECORDS)


def test_formats() -> None:
    assert render("") == "CONTAINER ID   NAMES\nabc            web\nd              a-long-name\n"
    assert render(r"table {{.Names}}\t{{.Label `a`}}") == "NAMES         a\nweb           1\na-long-name   \n"
    assert render("{{.ID}}={{upper .Names}}") == "abc=WEB\nd=A-LONG-NAME\n"
    assert render("json") == '{"ID":"abc","Names":"web"}\n{"ID":"d","Names":"a-long-name"}\n'


def test_columns_are_at_least_ten_wide() -> None:
    assert align(["A\tB", "1\t2"]) == "A         B\n1         2\n"


def test_neighbouring_ports_are_ranges() -> None:
    entries = [
        {"PrivatePort": port, "PublicPort": port, "IP": "0.0.0.0", "Type": "tcp"} for port in (80, 81, 82)
    ]
    assert ports([*entries, {"PrivatePort": 90, "Type": "udp"}]) == "0.0.0.0:80-82->80-82/tcp, 90/udp"
    assert ports([{"PrivatePort": 80, "PublicPort": 8080, "IP": "::", "Type": "tcp"}]) == "[::]:8080->80/tcp"


def test_detach_keys() -> None:
    assert parse_keys("ctrl-a,x,DEL,ctrl-[") == b"\x01x\x7f\x1b"
    with pytest.raises(InvalidParameter):
        parse_keys("ctrl-")


@given(st.binary(max_size=30), st.binary(max_size=10), st.integers(1, 5))
def test_what_is_typed_arrives_up_to_the_detach_keys(before: bytes, after: bytes, step: int) -> None:
    before = before.replace(b"\x10\x11", b"")
    typed = before + b"\x10\x11" + after
    watch, passed, detached = DetachWatch(b"\x10\x11"), b"", False
    for start in range(0, len(typed), step):
        data, detached = watch.feed(typed[start : start + step])
        passed += data
        if detached:
            break
    assert detached
    assert passed == typed[: typed.find(b"\x10\x11")]
