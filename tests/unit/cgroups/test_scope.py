"""A container's scope: names out of `slice:prefix:name`, limits as systemd's properties, paths beneath a cgroup."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cgroups import CgroupError
from sampan.cgroups.scope import limits, parse, properties
from sampan.cgroups.tree import beneath


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("system.slice:docker:abc", "/system.slice/docker-abc.scope"),
        (":docker:abc", "/system.slice/docker-abc.scope"),
        ("", "/system.slice/sampan-box.scope"),
        ("a-b-c.slice::x", "/a.slice/a-b.slice/a-b-c.slice/x.scope"),
        ("-.slice:p:n", "/p-n.scope"),
    ],
)
def test_names(text: str, path: str) -> None:
    assert parse(text, "box").path == path


@pytest.mark.parametrize(
    "text",
    ["/docker/abc", "a:b", "a.slice:b:c:d", "a:b:c", "-a.slice:b:c", "a--b.slice:b:c", "../x.slice:b:c", "a/b.slice:b:c",
     "a.slice:b:", "a.slice:../b:c", "a.slice:b:c/../d", "a.slice:b:c.slice"],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(CgroupError):
        parse(text, "box")


def test_limits_in_both_versions() -> None:
    resources = {
        "cpu": {"shares": 512, "quota": 50_500, "period": 100_000, "cpus": "0-2,9"},
        "memory": {"limit": 1 << 20, "swap": 3 << 20, "reservation": 1 << 19},
        "pids": {"limit": -1},
        "blockIO": {"weight": 300},
    }
    assert dict(limits(resources, v2=True)) == {  # type: ignore[arg-type]
        "CPUWeight": ("t", 59),
        "CPUQuotaPerSecUSec": ("t", 510_000),  # rounded up to ten milliseconds
        "CPUQuotaPeriodUSec": ("t", 100_000),
        "MemoryMax": ("t", 1 << 20),
        "MemoryLow": ("t", 1 << 19),
        "MemorySwapMax": ("t", 2 << 20),
        "TasksMax": ("t", 2**64 - 1),
        "IOWeight": ("t", 2930),
        "AllowedCPUs": ("ay", b"\x07\x02"),
    }
    v1 = dict(limits(resources, v2=False))  # type: ignore[arg-type]
    assert (v1["CPUShares"], v1["MemoryLimit"], v1["BlockIOWeight"]) == (
        ("t", 512),
        ("t", 1 << 20),
        ("t", 300),
    )
    assert "AllowedCPUs" not in v1
    assert limits({}, v2=True) == []
    with pytest.raises(CgroupError):
        limits({"cpu": {"cpus": "0-x"}}, v2=True)


def test_what_a_scope_is_given() -> None:
    found = dict(properties(parse("", "box"), "box", 7, {}, v2=True))
    assert (
        found["PIDs"] == ("au", [7])
        and found["Delegate"] == ("b", True)
        and found["Slice"][1] == "system.slice"
    )


PATHS = {"memory": "/m/box", "pids": "/p/box"}


def test_paths_beneath() -> None:
    assert beneath(PATHS, {}) == PATHS
    assert beneath(PATHS, {"": "/a/b/"}) == {"memory": "/m/box/a/b", "pids": "/p/box/a/b"}
    assert beneath(PATHS, {"memory": "a"}) == {"memory": "/m/box/a", "pids": "/p/box"}
    with pytest.raises(CgroupError, match="unknown controller cpu"):
        beneath(PATHS, {"cpu": "a"})
    for place in ("..", "../box2", "a/../../x"):
        with pytest.raises(CgroupError, match="not a sub cgroup"):
            beneath(PATHS, {"": place})


@given(st.text(alphabet="a./", max_size=12))
def test_nothing_leads_out(place: str) -> None:
    try:
        found = beneath(PATHS, {"": place})
    except CgroupError:
        return
    assert all(
        f"{path}/".startswith(PATHS[name] + "/") and ".." not in path.split("/")
        for name, path in found.items()
    )
