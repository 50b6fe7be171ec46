"""What builds keep: shown, let go of, and never what is in use."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from graph_builder import Building, build, in_image
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


def test_each_filter(make_engine: Callable[..., RunningEngine]) -> None:
    """By docker's client where it has the flag, and by ours."""
    engine = make_engine()
    build(engine, DOCKERFILE)

    def names() -> set[str]:
        return {each["ID"] for each in kept(engine)}

    def gone(*filters: str, flags: tuple[str, ...] = ("-a",), by: str = "docker") -> set[str]:
        before = names()
        words = [word for each in filters for word in ("--filter", each)]
        getattr(engine, by)("builder", "prune", "-f", *flags, *words)
        return before - names()

    def of(**wanted: Any) -> set[str]:
        return {each["ID"] for each in kept(engine) if all(each[key] == wanted[key] for key in wanted)}

    assert gone("until=24h") == gone("until=2020-01-01T00:00:00Z") == gone("inuse=true") == set()
    assert gone("type=exec.cachemount", "shared=true") == set()
    one, *_ = of(Type="regular", Shared=False)
    assert gone(f"id=^{one[:12]}") == {one}
    mounts = of(Type="exec.cachemount")
    assert mounts and gone("type=exec.cachemount", flags=()) == mounts
    shared = of(Shared=True)
    assert shared and gone("shared=true", flags=()) == set()
    assert gone("shared=true", by="sampan") == shared
    build(engine, DOCKERFILE)
    private = of(Shared=False)
    assert private and gone("private=true", "until=1ns", by="sampan") == private
    for wrong, said in (("id=(", "invalid filter id~=("), ("until=x", "expects a duration")):
        refused = engine.docker("builder", "prune", "-f", "--filter", wrong, check=False)
        assert refused.returncode == 1 and said in refused.stderr


@pytest.mark.parametrize("flag", ["--keep-storage", "--reserved-space", "--max-used-space"])
def test_each_limit(make_engine: Callable[..., RunningEngine], flag: str) -> None:
    """What was used longest ago goes, until the rest is within the limit."""
    engine = make_engine()
    for number in range(4):
        step = f"RUN head -c 4000000 /dev/urandom > /f{number}"
        build(
            engine, f"FROM busybox AS a\n{step}\nFROM busybox\nRUN --mount=from=a,target=/a true # {number}\n"
        )
    engine.sampan("builder", "prune", "-af", flag, "10000000")
    left = {each["Description"].rpartition("/f")[2] for each in kept(engine) if "/f" in each["Description"]}
    assert {"3"} <= left and "0" not in left and "1" not in left


def test_what_a_build_uses_stays(engine: RunningEngine) -> None:
    asked = {"type": ["regular"], "inuse": ["true"]}
    step = "RUN --mount=type=cache,target=/used echo begun && until [ -e /used/go ]; do sleep 0.05; done"
    going = Building(engine, f"FROM busybox\nRUN echo below > /below\n{step}\n")
    going.wait(lambda event: event["kind"] == "log" and event["data"] == "begun\n")
    prune(engine, all="1")
    assert any("below" in each["Description"] and each["InUse"] for each in kept(engine))
    assert prune(engine, all="1", filters=json.dumps(asked))["CachesDeleted"] is None
    place = next((engine.data_root / "solver" / "kept").iterdir())
    (place / "data" / "go").touch()
    going.join()


def test_a_filter_that_is_none_is_refused(engine: RunningEngine) -> None:
    with engine.client() as client, pytest.raises(Exception, match="invalid filter"):
        client.api.request("POST", "/build/prune", {"filters": '{"colour": ["red"]}'})
