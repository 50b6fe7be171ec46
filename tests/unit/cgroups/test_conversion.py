"""v1 values as v2 values, and the kernel's statistics as Docker's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cgroups import CgroupError
from sampan.cgroups.resources_v2 import io_weight_of_blkio, swap_max, weight_of_shares
from sampan.cgroups.stats_v1 import parse_blkio
from sampan.cgroups.stats_v2 import parse_io_stat


@pytest.mark.parametrize(
    ("shares", "weight"), [(0, 0), (2, 1), (1024, 100), (262144, 10000), (512, 59), (2048, 174)]
)
def test_cpu_weight(shares: int, weight: int) -> None:
    assert weight_of_shares(shares) == weight


@given(st.integers(2, 300_000), st.integers(2, 300_000))
def test_cpu_weight_is_monotonic_and_in_range(a: int, b: int) -> None:
    low, high = sorted((weight_of_shares(a), weight_of_shares(b)))
    assert 1 <= low <= high <= 10_000
    assert (weight_of_shares(min(a, b)), weight_of_shares(max(a, b))) == (low, high)


def test_io_weight() -> None:
    assert [io_weight_of_blkio(w) for w in (0, 10, 1000)] == [0, 1, 10_000]


def test_swap() -> None:
    assert swap_max(100, 150) == 50
    assert swap_max(100, 100) == 0
    assert swap_max(0, 0) == 0
    assert swap_max(100, -1) == -1
    with pytest.raises(CgroupError, match="without memory limit"):
        swap_max(0, 100)
    with pytest.raises(CgroupError, match="should be >= memory limit"):
        swap_max(100, 50)


def test_blkio_lines() -> None:
    assert parse_blkio("8:0 Read 4096\n8:0 Total 4096\n8:16 7\nTotal 4103\n") == [
        {"major": 8, "minor": 0, "op": "read", "value": 4096},
        {"major": 8, "minor": 0, "op": "total", "value": 4096},
        {"major": 8, "minor": 16, "op": "", "value": 7},
    ]


def test_io_stat_lines() -> None:
    assert parse_io_stat("8:0 rbytes=1 wbytes=2 rios=3\n8:16 \n") == [
        {"major": 8, "minor": 0, "op": "read", "value": 1},
        {"major": 8, "minor": 0, "op": "write", "value": 2},
    ]
