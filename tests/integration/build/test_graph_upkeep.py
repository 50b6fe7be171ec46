"""What builds keep: shown, let go of, and never what is in use."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from graph_builder import build, in_image
from running_engine import RunningEngine

pytestmark = pytest.mark.root

DOCKERFILE = """\
FROM busybox AS side
RUN head -c 300000 /dev/zero > /side
FROM busybox
COPY --from=side /side /copied
RUN --mount=type=cache,target=/c head -c 200000 /dev/zero > /c/f
"""


def kept(engine: RunningEngine) -> list[dict[str, Any]]:
    with engine.client() as client:
        found: list[dict[str, Any]] = client.api.request("GET", "/system/df").json()["BuildCache"]
        return found


def prune(engine: RunningEngine, **query: Any) -> dict[str, Any]:
    with engine.client() as client:
        answer: dict[str, Any] = client.api.request("POST", "/build/prune", query).json()
        return answer


def test_results_are_shown_and_pruned(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    build(engine, DOCKERFILE)
    records = {each["Description"].rpartition("] ")[2]: each for each in kept(engine)}
    side = records["RUN head -c 300000 /dev/zero > /side"]
    assert side["Type"] == "regular" and side["Size"] >= 300000 and not side["Shared"] and not side["InUse"]
    cache = next(each for name, each in records.items() if name.startswith("cached mount"))
    assert cache["Type"] == "exec.cachemount" and cache["Size"] >= 200000
    assert "Build Cache" in engine.docker("system", "df").stdout
    # Without `all`, what the image has too stays.
    gone = prune(engine, filters=json.dumps({"type": ["regular"]}))
    assert side["ID"] in gone["CachesDeleted"] and gone["SpaceReclaimed"] >= 300000
    assert any(each["Shared"] for each in kept(engine))
    assert (
        build(engine, DOCKERFILE).ran() == []
    )  # the pruned step is not needed: what was copied from it is there
    prune(engine, all="1")
    assert kept(engine) == []
    assert in_image(engine, "wc -c < /copied") == ["300000"]
    assert len([each for each in build(engine, DOCKERFILE).ran() if "RUN" in each]) == 2
    prune(engine, all="1")
    assert not (list((engine.data_root / "solver" / "kept").iterdir()))


def test_limits_keep_what_was_used_last(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    for number in range(3):
        build(
            engine,
            f"FROM busybox AS a\nRUN head -c 1000000 /dev/zero > /f{number}\nFROM busybox\nCOPY --from=a /f{number} /\n",
            t=["x"],
        )
    prune(engine, **{"max-used-space": 2_500_000, "all": "1"})
    left = [each["Description"] for each in kept(engine) if "RUN" in each["Description"]]
    assert any("/f2" in each for each in left) and not any("/f0" in each for each in left)


def test_a_filter_that_is_none_is_refused(engine: RunningEngine) -> None:
    with engine.client() as client, pytest.raises(Exception, match="invalid filter"):
        client.api.request("POST", "/build/prune", {"filters": '{"colour": ["red"]}'})
