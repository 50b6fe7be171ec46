"""The rehearsal of a shim's life goes through to its end, and leaves nothing."""

from __future__ import annotations

import os
from pathlib import Path

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
