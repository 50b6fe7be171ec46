"""Words for yes and no."""

from __future__ import annotations

import pytest

from sampan.errors import InvalidParameter
from sampan.names.booleans import parse_bool, word_for


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "True", "TRUE"])
def test_yes(text: str) -> None:
    assert word_for(text) is True and parse_bool("x", text)


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "False", "FALSE"])
def test_no(text: str) -> None:
    assert word_for(text) is False and not parse_bool("x", text)


@pytest.mark.parametrize("text", ["", "yes", "tRuE", " true", "2"])
def test_neither(text: str) -> None:
    assert word_for(text) is None
    with pytest.raises(InvalidParameter, match="failed to parse x"):
        parse_bool("x", text)
