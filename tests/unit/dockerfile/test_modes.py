"""`chmod` in words, against the program itself."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.dockerfile.modes import changed_mode, parse_mode
from sampan.errors import InvalidParameter

_clause = st.builds(
    lambda who, operator, what: f"{who}{operator}{what}",
    st.text("ugo", min_size=1, max_size=3),
    st.sampled_from("+-="),
    st.one_of(st.text("rwxX", max_size=3), st.sampled_from("ugo")),
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 0o777), st.lists(_clause, min_size=1, max_size=3), st.booleans())
def test_as_chmod_does_it(
    tmp_path_factory: pytest.TempPathFactory, mode: int, clauses: list[str], directory: bool
) -> None:
    path: Path = tmp_path_factory.mktemp("modes") / "x"
    path.mkdir() if directory else path.touch()
    path.chmod(mode)
    text = ",".join(clauses)
    before = os.stat(path).st_mode
    subprocess.run(["chmod", text, str(path)], check=True, umask=0)
    assert changed_mode(before, parse_mode(text)) == stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("text", ["", "u", "z+x", "u+q", "u+x,", "755x"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid mode"):
        parse_mode(text)
