"""Attributes of exporters."""

from __future__ import annotations

import pytest

from sampan.errors import NotSupported
from sampan.exporters.forms import check


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("annotation.org.example.a", "b"),
        ("annotation-index.a", ""),
        ("push-by-digest", "true"),
        ("force-compression", "1"),
        ("tar", "false"),
        ("dangling-name-prefix", "none"),
    ],
)
def test_what_a_result_would_silently_lack_is_refused(name: str, value: str) -> None:
    with pytest.raises(NotSupported, match=name):
        check({"name": "a:1", name: value})


def test_what_is_there_or_switched_off_is_taken() -> None:
    check({"name": "a:1", "push": "true", "force-compression": "false", "tar": "true", "compression": "zstd"})
