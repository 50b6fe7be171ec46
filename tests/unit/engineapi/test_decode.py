"""JSON is read as Go reads it: names in any case, null as absent, unknown fields ignored, wrong types named."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engineapi.decode import decode
from sampan.engineapi.filters import Filters
from sampan.errors import InvalidParameter


class Inner(msgspec.Struct, rename="pascal"):
    image: str = ""
    size: int = 0


class Outer(msgspec.Struct, rename="pascal"):
    host_config: Inner | None = None
    named: dict[str, Inner] | None = None
    many: list[Inner] = []
    cmd: list[str] | None = None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"{}", Outer()),
        (b'{"hostconfig": {"IMAGE": "x", "Extra": [1, {}]}}', Outer(host_config=Inner("x"))),
        (b'{"HostConfig": null, "Cmd": null}', Outer()),
        (b'{"Named": {"Key": {"image": "y"}}}', Outer(named={"Key": Inner("y")})),
        (b'{"many": [{"size": 3}]}', Outer(many=[Inner("", 3)])),
        (b'{"many": [null], "cmd": [null]}', Outer(many=[Inner()], cmd=[""])),
        (
            b'{"cmd": ["\xff", "\\ud800", "\\udc00x", "\\ud83d\\ude00", "\\\\ud800"]}',
            Outer(cmd=["\ufffd", "\ufffd", "\ufffdx", "\U0001f600", "\\ud800"]),
        ),
    ],
)
def test_go_semantics(text: bytes, expected: Outer) -> None:
    assert decode(text, Outer) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "EOF"),
        (b"{", "invalid JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"Many": [{"Size": "big"}]}', r"\$\.Many\[0\]\.Size"),
        (b'{"Cmd": [1]}', r"\$\.Cmd\[0\]"),
        (b"\xff\xfe", "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
    ],
)
def test_mistakes_are_named(text: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        decode(text, Outer)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        decode(data, Outer)
    except InvalidParameter:
        pass


@pytest.mark.parametrize("text", ['{"label": ["a", "b"]}', '{"label": {"a": true, "b": false}}'])
def test_filters_come_as_lists_and_as_maps(text: str) -> None:
    """dockerd asks which values there are, not what is said of them."""
    assert Filters.parse(text).get("label") == ["a", "b"]


@pytest.mark.parametrize("text", ["[]", "{", '{"label": "a"}', '{"label": [1]}', '"x"'])
def test_filters_of_another_shape_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid filter"):
        Filters.parse(text)


def test_label_filters_are_all_conditions() -> None:
    filters = Filters({"label": ["a", "b=2"], "label!": ["z"]})
    assert filters.labels({"a": "1", "b": "2"})
    assert not filters.labels({"a": "1", "b": "3"})
    assert not filters.labels(None)
    assert filters.labels_absent({"a": "1"})
    assert not filters.labels_absent({"z": ""})


@pytest.mark.parametrize(("values", "expected"), [(["true"], True), (["0"], False), (["1", "t"], True)])
def test_boolean_filters(values: list[str], expected: bool) -> None:
    assert Filters({"dangling": values}).boolean("dangling", not expected) is expected


@pytest.mark.parametrize("values", [["maybe"], ["true", "false"]])
def test_contradicting_booleans_are_refused(values: list[str]) -> None:
    with pytest.raises(InvalidParameter):
        Filters({"dangling": values}).boolean("dangling", False)
