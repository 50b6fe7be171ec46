"""Paths, versions and query parameters as dockerd reads them."""

from __future__ import annotations

import pytest

from sampan.api.query import Query
from sampan.api.router import Router, split_version
from sampan.errors import InvalidParameter


async def handler(call: object) -> object:
    raise AssertionError("never called")


def router() -> Router:
    made = Router()
    for path in (
        "/images/json",
        "/images/{name:any}/json",
        "/images/{name:any}",
        "/containers/{id}/json",
        "/v.x/{id}",
    ):
        made.add("GET", path, handler)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/images/json", {}),
        ("/images/busybox/json", {"name": "busybox"}),
        ("/images/reg:5000/a/b:1/json", {"name": "reg:5000/a/b:1"}),
        ("/images/a/json/b", {"name": "a/json/b"}),
        ("/containers/x/json", {"id": "x"}),
        ("/containers/x/y/json", None),
        ("/containers//json", None),
        ("/vxx/1", None),
        ("/", None),
        ("/nowhere", None),
    ],
)
def test_paths(path: str, fields: dict[str, str] | None) -> None:
    found = router().find("GET", path)
    assert (found.fields if found else None) == fields


def test_methods_are_apart() -> None:
    assert router().find("POST", "/images/json") is None
    assert router().has_path("/images/json")
    assert not router().has_path("/nowhere")


@pytest.mark.parametrize(
    ("path", "version", "rest"),
    [
        ("/v1.50/info", (1, 50), "/info"),
        ("/info", None, "/info"),
        ("/v1/info", None, "/v1/info"),
        ("/v1.50", None, "/v1.50"),
        ("/v1.50/v1.24/info", (1, 50), "/v1.24/info"),
    ],
)
def test_versions(path: str, version: tuple[int, int] | None, rest: str) -> None:
    assert split_version(path) == (version, rest)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all=1", True),
        ("all=yes", True),
        ("all=True", True),
        ("all", False),
        ("all=0", False),
        ("all=no", False),
        ("all=none", False),
    ],
)
def test_booleans_are_as_loose_as_dockerds(text: str, expected: bool) -> None:
    assert Query(text).boolean("all") is expected


def test_defaults_repeats_and_numbers() -> None:
    query = Query("t=5&name=a&name=b&empty=")
    assert query.integer("t", 10) == 5
    assert query.integer("empty", 10) == 10
    assert query.integer("none", 10) == 10
    assert (query.text("name"), query.all("name")) == ("a", ["a", "b"])
    assert "empty" in query and "none" not in query
    assert query.boolean("none", default=True)


def test_a_bad_number_is_named() -> None:
    with pytest.raises(InvalidParameter, match='parsing "soon"'):
        Query("t=soon").integer("t")
