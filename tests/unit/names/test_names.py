"""Container and volume names, ids."""

import pytest

from sampan.errors import InvalidParameter
from sampan.names import names


@pytest.mark.parametrize("name", ["a1", "/web", "A_b.c-d", "0x"])
def test_container_names_allowed(name: str) -> None:
    assert names.check_container_name(name) == name.removeprefix("/")


@pytest.mark.parametrize("name", ["", "a", "/", "_x", "a/b", "a b", "é1", "a\n", "ab\n", "//ab"])
def test_container_names_refused(name: str) -> None:
    with pytest.raises(InvalidParameter, match=r"only \[a-zA-Z0-9\]\[a-zA-Z0-9_.-\] are allowed"):
        names.check_container_name(name)


def test_random_names_and_ids() -> None:
    assert names.check_container_name(names.random_name())
    assert names.random_name(1)[-1].isdigit()
    assert len({names.new_id() for _ in range(100)}) == 100
    assert names.is_id(names.new_id())
    assert names.truncate_id("sha256:" + "ab" * 32) == "ab" * 6
