"""Filters of BuildKit's clients, as the engine's."""

from __future__ import annotations

import pytest

from sampan.buildkit import usage
from sampan.buildkit.protos import control_pb2 as pb
from sampan.errors import InvalidParameter


def test_filters_of_a_client() -> None:
    found = usage.filters(["type==regular,shared", "id~=^ab", "type==internal", ""])
    assert {name: found.get(name) for name in found} == {
        "type": ["regular", "internal"],
        "shared": ["true"],
        "id": ["~^ab"],
    }
    assert not usage.filters([])


@pytest.mark.parametrize("text", ["type!=regular", "a b", "==x"])
def test_filters_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid filter"):
        usage.filters([text])


def test_limits_of_a_client() -> None:
    asked = usage.prune_request(
        pb.PruneRequest(all=True, keepDuration=5, reservedSpace=1, maxUsedSpace=2, minFreeSpace=3)
    )
    assert (asked.all, asked.unused_for_ns, asked.reserved, asked.maximum, asked.free) == (True, 5, 1, 2, 3)
