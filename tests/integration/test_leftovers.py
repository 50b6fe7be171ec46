"""The suite's own promise: what is left over is seen, explained, and told from what others have."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import leftovers

pytestmark = pytest.mark.root


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> leftovers.Machine:
    monkeypatch.setenv(leftovers.MARK, secrets.token_hex(8))
    return leftovers.take()


@pytest.fixture
def namespace_holder() -> Iterator[int]:
    """A process in a network namespace of its own."""
    process = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "echo ready; exec sleep 1000"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    yield process.pid
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_link_is_named_with_the_process_that_keeps_it(
    before: leftovers.Machine, namespace_holder: int
) -> None:
    name = f"lo{secrets.token_hex(4)}"
    subprocess.run(
        ["ip", "link", "add", name, "type", "veth", "peer", "name", "inside", "netns", str(namespace_holder)],
        check=True,
    )
    try:
        left = [line for line in leftovers.wait_for(before, 0) if name in line]
        assert left and f"{namespace_holder} sleep 1000" in left[0]
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)


def test_what_a_strangers_process_has_open_is_not_ours(before: leftovers.Machine) -> None:
    path = Path("/tmp", f"stranger-{secrets.token_hex(4)}")
    path.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != leftovers.MARK}
    try:
        assert any(str(path) in line for line in leftovers.wait_for(before, 0))
        done = subprocess.run(  # the shell ends, so that the sleeping process is nobody's child
            ["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"],
            cwd=path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        try:
            assert not any(str(path) in line for line in leftovers.wait_for(before, 0))
        finally:
            os.kill(int(done.stdout), signal.SIGKILL)
    finally:
        path.rmdir()
