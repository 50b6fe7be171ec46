"""Tests of what only a machine that systemd started has."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from engine_fixtures import busybox

__all__ = ["busybox"]

Systemctl = Callable[..., str]


@pytest.fixture
def systemctl() -> Systemctl:
    """What `systemctl …` prints, whatever its exit code (`is-active` says "inactive" with 3)."""

    def run(*arguments: str) -> str:
        return subprocess.run(
            ["systemctl", *arguments], capture_output=True, text=True, timeout=60, check=False
        ).stdout.strip()

    assert Path("/run/systemd/system").is_dir(), "bin/test vm --systemd"
    return run
