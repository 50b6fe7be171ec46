"""Sampan beside a real dockerd on one machine: traffic on both, stops in either order, and nobody's rules touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from busybox_image import busybox_archive

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).with_name("beside_docker.py")


@pytest.mark.parametrize("order", ["docker-first", "sampan-first"])
def test_neither_touches_the_other(order: str, tmp_path: Path) -> None:
    image = tmp_path / "busybox.tar"
    image.write_bytes(busybox_archive())
    done = subprocess.run(
        [
            *("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"),
            sys.executable,
            str(SCRIPT),
            str(tmp_path),
            str(image),
            order,
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["passed"]), done.stderr[-6000:]
