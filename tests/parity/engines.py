"""The engines that play scenarios: Sampan of this checkout and its `peers`, each in a room of its own (`room.sh`), with its state
below `/mnt`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from parity.peers import PEERS, build_current

OURS = "sampan"
READY_SECONDS = 60
BIP = "172.31.255.1/24"

ROOT = Path("/mnt/engine")
SOCKET = ROOT / "d.sock"


class Program(NamedTuple):
    """How to start an engine."""

    command: list[str]
    path: str
    """Its PATH."""


def prepare(peer: str) -> None:
    """Outside the room, where there is a network: get what the peer needs. Raises SystemExit when it is not to be had."""
    if peer == "dockerd":
        build_current()
    if peer in PEERS and shutil.which("dockerd") is None:
        raise SystemExit(f"the peer {peer} needs Debian's docker.io: apt-get install docker.io")


@contextlib.contextmanager
def running(name: str) -> Iterator[subprocess.Popen[bytes]]:
    """The engine, started and answering at SOCKET; in a room, which cleans up after it."""
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
    program = _sampan() if name == OURS else _dockerd(name)
    with (ROOT / "log").open("wb") as log:
        process = subprocess.Popen(
            program.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": program.path},
            start_new_session=True,
        )
    try:
        _wait_until_ready(process)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _sampan() -> Program:
    command = [sys.executable, "-m", "sampan.serve", *_state(), "--bridge", "docker0", "--bip", BIP]
    return Program([*command, "-H", f"unix://{SOCKET}"], os.environ["PATH"])


def _dockerd(peer: str) -> Program:
    path = os.environ["PATH"]
    arguments = ["--bip", BIP, "--config-file", str(ROOT / "daemon.json")]
    if peer == "dockerd":
        built = build_current()
        path = f"{built}:{path}"
        arguments += ["--userland-proxy-path", str(built / "docker-proxy")]
    (ROOT / "daemon.json").write_text("{}")
    program = shutil.which("dockerd", path=path)
    assert program, "dockerd went away"
    return Program([program, *_state(), *arguments, "-H", f"unix://{SOCKET}"], path)


def _state() -> list[str]:
    return [f"--data-root={ROOT}/data", f"--exec-root={ROOT}/run", f"--pidfile={ROOT}/pid"]


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if SOCKET.exists():
            probe = subprocess.run(
                ["docker", "-H", f"unix://{SOCKET}", "version"], capture_output=True, timeout=20, check=False
            )
            if probe.returncode == 0:
                return
        time.sleep(0.1)
    raise SystemExit("the engine did not start:\n" + (ROOT / "log").read_text(errors="replace")[-3000:])
