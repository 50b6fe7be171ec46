"""Finding the hierarchies in mountinfo."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cgroups import CgroupError
from sampan.cgroups.layout import parse_mountinfo

CONTROLLERS = {"cpu", "cpuacct", "memory", "pids", "freezer"}

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:7 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
"""
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"


def test_v1_hierarchies_may_hold_several_controllers() -> None:
    layout = parse_mountinfo(V1, CONTROLLERS)
    assert layout.version == "v1"
    assert layout.roots == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "name=systemd": "/sys/fs/cgroup/systemd",
    }
    assert layout.can_rename


def test_hybrid_puts_containers_into_v1_only() -> None:
    layout = parse_mountinfo(V1 + UNIFIED, CONTROLLERS)
    assert layout.version == "hybrid"
    assert layout.unified == "/sys/fs/cgroup/unified"
    assert set(layout.cgroup("/docker/x").paths) == {"cpu", "cpuacct", "memory", "name=systemd"}


def test_v2_alone_even_beside_a_named_v1_hierarchy() -> None:
    named = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    layout = parse_mountinfo(
        "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n" + named, CONTROLLERS
    )
    assert layout.version == "v2"
    assert layout.cgroup("/docker/x").paths == {"": "/sys/fs/cgroup/docker/x"}
    assert not layout.can_rename


def test_escaped_mount_points() -> None:
    layout = parse_mountinfo(r"30 23 0:26 / /sys/my\040cgroup rw - cgroup2 cgroup2 rw", set())
    assert layout.unified == "/sys/my cgroup"


def test_no_cgroups_says_what_to_do() -> None:
    with pytest.raises(CgroupError, match="mount cgroup2"):
        parse_mountinfo("23 1 8:1 / / rw - ext4 /dev/sda1 rw\n", CONTROLLERS)


@given(st.text())
def test_any_text_is_a_layout_or_a_clear_error(text: str) -> None:
    try:
        parse_mountinfo(text, CONTROLLERS)
    except CgroupError:
        pass
