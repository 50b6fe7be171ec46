"""`docker logs` through the unmodified CLI: large logs, rotations, slow and vanished readers."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

RUN = ("run", "--network", "none")


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def workers_of(engine: RunningEngine) -> list[str]:
    """The worker processes among the descendants of this engine."""
    listing = subprocess.run(
        ["ps", "-eo", "pid,ppid,comm"], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()[1:]]
    family = {str(engine.pid)}
    for _ in range(3):
        family |= {pid for pid, parent, _ in rows if parent in family}
    return [pid for pid, _, name in rows if pid in family and name.startswith("sampan-worker")]


@pytest.mark.parametrize(
    "options", [(), ("--log-driver", "local"), ("--log-opt", "max-size=700k", "--log-opt", "max-file=99")]
)
def test_a_large_log_is_read_whole(engine: RunningEngine, options: tuple[str, ...]) -> None:
    script = "seq 1 300000; seq 1 100000 >&2"
    engine.docker(*RUN, *options, "--name", "big", "busybox", "sh", "-c", script)
    done = engine.docker("logs", "big")
    assert done.stdout == "".join(f"{number}\n" for number in range(1, 300_001))
    assert done.stderr == "".join(f"{number}\n" for number in range(1, 100_001))
    tail = engine.docker("logs", "--tail", "120000", "big")
    assert tail.stdout.count("\n") + tail.stderr.count("\n") == 120_000


def test_a_log_of_a_terminal_with_times(engine: RunningEngine) -> None:
    engine.docker(*RUN, "-t", "--name", "tty", "busybox", "seq", "1", "200000")
    lines = engine.docker("logs", "-t", "tty").stdout.splitlines()
    assert [line.split()[1] for line in lines] == [str(number) for number in range(1, 200_001)]
    middle = lines[100_000].split()[0]
    since = engine.docker("logs", "--since", middle, "tty").stdout.splitlines()
    until_ = engine.docker("logs", "--until", middle, "tty").stdout.splitlines()
    assert since[-1] == "200000" and until_[0] == "1"
    # What was written at that very moment belongs to both.
    assert len(since) + len(until_) - 200_000 == sum(line.startswith(middle + " ") for line in lines)


def test_following_through_rotations_while_the_container_writes(engine: RunningEngine) -> None:
    script = "i=0; while [ $i -lt 20 ]; do seq $((i*1000+1)) $((i*1000+1000)); i=$((i+1)); done"
    options = ("--log-opt", "max-size=50k", "--log-opt", "max-file=100", "--log-opt", "compress=true")
    engine.docker(*RUN, "-d", "-i", *options, "--name", "flood", "busybox", "sh", "-c", f"read go; {script}")
    with subprocess.Popen(
        ["docker", "-H", engine.host, "logs", "-f", "flood"], stdout=subprocess.PIPE, text=True
    ) as following:
        engine.docker("attach", "flood", input="go\n")
        assert following.stdout is not None
        assert following.stdout.read() == "".join(f"{number}\n" for number in range(1, 20_001))
    assert engine.docker("logs", "flood").stdout == "".join(f"{number}\n" for number in range(1, 20_001))


def test_readers_that_do_not_read_hold_nobody_up(engine: RunningEngine) -> None:
    """More of them than there are workers for logs; and when they go, their workers do."""
    engine.docker(
        *RUN, "--name", "big", "busybox", "sh", "-c", "yes 0123456789 | head -c 8000000", timeout=120
    )
    command = ["docker", "-H", engine.host, "logs", "big"]
    stuck = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(10)]
    try:
        for reader in stuck:
            assert reader.stdout is not None and reader.stdout.read(10)
        whole = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
        assert hashlib.sha256(whole).digest() == hashlib.sha256((b"0123456789\n" * 727273)[:8000000]).digest()
        engine.docker("cp", "big:/etc/passwd", "-")  # workers for other work are not theirs
    finally:
        for reader in stuck:
            reader.kill()
            reader.communicate()
    until(lambda: not workers_of(engine))
