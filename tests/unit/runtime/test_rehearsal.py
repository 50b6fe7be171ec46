"""The rehearsal of a shim's life goes through to its end, and leaves nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.linux import process
from sampan.runtime.shim import rehearsal


def test_rehearsal_leaves_nothing() -> None:
    def state() -> tuple[int, list[Path], str]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return (
            len(os.listdir("/proc/self/fd")),
            list(Path("/tmp").glob(f".sampan-rehearsal-{os.getpid()}*")),
            children,
        )

    before = state()
    rehearsal.rehearse()
    assert state() == before


def test_a_rehearsal_that_is_broken_off_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that stood still, a spare's time is over before an exec takes it."""
    monkeypatch.setattr("sampan.runtime.shim.execs.SPARE_SECONDS", -1.0)
    before = process.children()
    with pytest.raises((RuntimeError, OSError)):
        rehearsal.rehearse()
    assert process.children() == before
