"""A part of what is too long to run wholly with each change: another one with each commit."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")


def chosen(config: pytest.Config, everything: Sequence[T]) -> Sequence[T]:
    """All; with `--share N` one in N of them, which ones being the commit's turn."""
    share: int = config.getoption("--share")
    if share <= 1:
        return everything
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
    return everything[int(head.strip() or "0", 16) % share :: share]
