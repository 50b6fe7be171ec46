"""Which frontend a file asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.dockerfile.syntax import Syntax, detect_syntax


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# syntax=a/b:1\nFROM x", Syntax("a/b:1", "a/b:1", 1)),
        ("#syntax = a/b:1 --flag v \r\n", Syntax("a/b:1", "a/b:1 --flag v", 1)),
        ("\ufeff# escape=`\n# SYNTAX=a\n", Syntax("a", "a", 2)),
        ("#!/usr/bin/x\n# syntax=a\n", Syntax("a", "a", 2)),
        ("// syntax=a\npackage x", Syntax("a", "a", 1)),
        ('{"syntax": "a/b", "x": 1}', Syntax("a/b", "a/b", 1)),
        ("# a comment\n# syntax=a\n", None),
        ("\n# syntax=a\n", None),
        ("FROM x\n# syntax=a\n", None),
        ("# syntax=a\n# syntax=b\n", None),
        ('{"syntax": 1}', None),
        ("{" * 100_000, None),
        ("", None),
    ],
)
def test_what_the_head_of_a_file_says(text: str, expected: Syntax | None) -> None:
    assert detect_syntax(text.encode()) == expected


@given(st.binary())
def test_any_bytes_are_a_file(data: bytes) -> None:
    detect_syntax(data)
