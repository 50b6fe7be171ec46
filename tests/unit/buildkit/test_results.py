"""What a frontend's metadata says of its platforms."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.buildkit.directories import directory_of
from sampan.buildkit.frontends import CONFIG, EPOCH, PLATFORMS
from sampan.buildkit.jobs import Ref, Result
from sampan.buildkit.results import epoch, listed
from sampan.errors import InvalidParameter
from sampan.names import platform as platforms

ONE, OTHER = (cast("Ref", object()) for _ in range(2))


def result(refs: dict[str, Ref | None], entries: Any = None, **metadata: bytes) -> Result:
    mapping = {} if entries is None else {PLATFORMS: json.dumps({"Platforms": entries}).encode()}
    return Result(refs, {**mapping, **metadata})


def entry(id: str, architecture: str, **more: str) -> dict[str, Any]:
    return {"ID": id, "Platform": {"os": "linux", "architecture": architecture, **more}}


def test_platforms_have_the_ids_that_the_frontend_gives() -> None:
    both = [entry("b", "aarch64", variant="v8"), entry("a", "amd64"), entry("a", "amd64")]
    given = result({"a": ONE, "b": OTHER}, both)
    assert [(each.id, str(each.platform)) for each in listed(given)] == [
        ("b", "linux/arm64"),
        ("a", "linux/amd64"),
    ]
    assert given.find("a") is ONE and given.find("b") is OTHER
    with pytest.raises(InvalidParameter, match="failed to find ref for ID c"):
        given.find("c")


def test_a_single_result_is_found_by_any_id() -> None:
    given = result({"": ONE}, [entry("linux/arm64", "arm64")])
    (only,) = listed(given)
    assert given.find(only.id) is ONE and str(only.platform) == "linux/arm64"
    config = json.dumps({"os": "linux", "architecture": "riscv64", "rootfs": {"type": "layers"}}).encode()
    assert [str(each.platform) for each in listed(result({"": ONE}, None, **{CONFIG: config}))] == [
        "linux/riscv64"
    ]
    assert [each.platform for each in listed(result({"": None}))] == [platforms.local()]


@pytest.mark.parametrize(
    "given",
    [
        result({"a": ONE, "b": OTHER}),
        result({"": ONE}, []),
        result({"": ONE}, [entry("", "amd64")]),
        result({"": ONE}, [entry("a", "")]),
        result({"": ONE}, [entry("a", "amd64"), entry("b", "arm64")]),
        result({"": ONE}, **{PLATFORMS: b"{"}),
        result({"": ONE}, **{PLATFORMS: b'{"Platforms": 1}'}),
        result({"": ONE}, **{CONFIG: b'{"os": "linux"}'}),
    ],
)
def test_what_makes_no_sense_is_refused(given: Result) -> None:
    with pytest.raises(InvalidParameter):
        listed(given)


def test_times_are_the_exporters_or_the_platforms_or_everyones() -> None:
    given = Result({"a": ONE}, {EPOCH: b"1", f"{EPOCH}/a": b"2"})
    assert (epoch(given, "a", {}), epoch(given, "b", {})) == (2, 1)
    assert epoch(given, "a", {"source-date-epoch": "3"}) == 3
    assert epoch(given, "a", {"source-date-epoch": ""}) is None
    assert epoch(Result({"": ONE}), "a", {}) is None
    with pytest.raises(InvalidParameter, match="SOURCE_DATE_EPOCH"):
        epoch(given, "a", {"source-date-epoch": "soon"})


@given(st.text(min_size=1))
def test_a_platforms_directory_is_one_name(id: str) -> None:
    name = directory_of(id)
    assert name not in (".", "..") and not set(name) & set("/\\\0") and len(name) == len(id)
