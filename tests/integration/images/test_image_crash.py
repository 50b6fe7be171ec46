"""kill -9 of an engine that loads, removes and collects: what was acknowledged is there, the rest is gone."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_archives import Layout, tar
from image_engine import EngineProcess

pytestmark = pytest.mark.root

ROUNDS = 8


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[EngineProcess]:
    with tempfile.TemporaryDirectory(prefix="sampan-crash-") as scratch:
        victim = EngineProcess(tmp_path / "state", Path(scratch) / "e.sock")
        yield victim
        victim.end(signal.SIGKILL)


def archive(path: Path, number: int) -> Path:
    """Two images that share a layer, different in each round."""
    layout = Layout()
    shared = tar({f"{number}-{file}": os.urandom(1000) for file in range(300)})
    for name in ("a", "b"):
        layout.name(layout.image([shared, tar({name: os.urandom(2 << 20)})]), f"{name}{number}:1")
    target = path / f"{number}.tar"
    target.write_bytes(layout.archive())
    return target


def test_killed_while_loading(victim: EngineProcess, tmp_path: Path) -> None:
    chance = random.Random(os.environ.get("SAMPAN_TEST_SEED", "4"))
    acknowledged: set[str] = set()
    victim.start()
    begun = time.monotonic()
    victim.output("load", "-i", str(archive(tmp_path, ROUNDS)))
    whole = time.monotonic() - begun
    for number in range(ROUNDS):
        loading = victim.docker("load", "-i", str(archive(tmp_path, number)))
        time.sleep(
            chance.uniform(0, 1.5 * whole)
        )  # not synchronisation: the point of the kill is the variable
        victim.end(signal.SIGKILL)
        output, _ = loading.communicate(timeout=30)
        acknowledged |= {
            line.split()[-1] for line in output.decode().splitlines() if line.startswith("Loaded image:")
        }
        victim.start()
        present = set(victim.output("images", "--format", "{{.Repository}}:{{.Tag}}").split())
        assert acknowledged <= present
        for name in present:
            victim.output("image", "inspect", name)
            victim.output("save", "-o", str(tmp_path / "saved.tar"), name)
        if present and chance.random() < 0.5:
            doomed = chance.choice(sorted(present))
            victim.output("rmi", doomed)
            acknowledged.discard(doomed)
    for name in victim.output("images", "-q").split():
        victim.output("rmi", "-f", name)
    victim.end(signal.SIGTERM)
    left = [path for path in (victim.root / "content").rglob("*") if path.is_file()]
    assert left == []
    trees = [path for path in (victim.root / "snapshots" / "overlayfs").iterdir() if path.name.isdigit()]
    assert trees == []
