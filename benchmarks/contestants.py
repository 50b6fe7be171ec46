"""The engines that are held against each other, each with state and a network namespace of its own.

A fresh network namespace gives both the same empty firewall and routing table, keeps a Docker that the machine runs for itself
out of it, and takes bridges and rules away with the engine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.parity import peers

from benchmarks import processes
from sampan.client.api import Api
from sampan.client.endpoint import parse
from sampan.errors import SampanError

NAMESPACE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"')
_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "PYTHON"))
}


class Contestant:
    """A running engine; `pid` is the process that serves `socket`."""

    def __init__(self, name: str, socket: str, pid: int) -> None:
        self.name = name
        self.host = f"unix://{socket}"
        self.pid = pid

    def api(self) -> Api:
        """A connection of the caller's own (one a thread), at a version that docker.io 20.10 speaks too."""
        return Api(parse(self.host), version=(1, 41))

    def docker(self, *arguments: str, stdout: Any = subprocess.DEVNULL) -> None:
        """Run the docker command line. Raises CalledProcessError, with what it said."""
        subprocess.run(
            ["docker", "-H", self.host, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            timeout=600,
            check=True,
        )

    def output(self, *arguments: str) -> str:
        done = subprocess.run(
            ["docker", "-H", self.host, *arguments],
            capture_output=True,
            env=_ENVIRONMENT,
            timeout=600,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def roles(self) -> dict[str, list[int]]:
        """Its processes by what they are: `engine` (with helpers of fixed number) and `shims`."""
        raise NotImplementedError


class Sampan(Contestant):
    def roles(self) -> dict[str, list[int]]:
        """Engine, zygote with its seed, and below it the shims, parked ones included, without the containers' own processes."""
        below = processes.descendants(self.pid)
        python = [pid for pid in below if "sampan.zygote" in processes.command(pid)]
        table = processes.children_of()
        zygote = [pid for pid in python if pid in table.get(self.pid, [])]
        zygote += [pid for pid in python if processes.name(pid) == "sampan-seed"]
        return {
            "engine": [self.pid],
            "zygote": zygote,
            "shims": [pid for pid in python if pid not in zygote],
        }


class Docker(Contestant):
    def __init__(self, name: str, socket: str, pid: int) -> None:
        super().__init__(name, socket, pid)
        self._root = str(Path(socket).parent)

    def roles(self) -> dict[str, list[int]]:
        """dockerd, its containerd, and the shims that name this containerd's address."""
        containerd = [
            pid
            for pid in processes.descendants(self.pid)
            if processes.command(pid)[:1] and processes.command(pid)[0].endswith("containerd")
        ]
        shims = [
            pid for pid in processes.mentioning(self._root) if "containerd-shim" in processes.command(pid)[0]
        ]
        return {"engine": [self.pid], "containerd": containerd, "shims": shims}


@contextlib.contextmanager
def sampan() -> Iterator[Sampan]:
    """Sampan as it is installed; ends with nothing of it left."""
    root = Path(tempfile.mkdtemp(prefix="bench-"))
    command = [sys.executable, "-I", "-m", "sampan.serve", "--data-root", str(root / "data")]
    command += ["--exec-root", str(root / "run"), "-H", f"unix://{root}/engine.sock"]
    try:
        with (root / "log").open("wb") as log, _process([*NAMESPACE, *command], log) as engine:
            _await(root / "engine.sock", engine, root / "log")
            yield Sampan("sampan", f"{root}/engine.sock", engine.pid)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def docker(peer: str) -> Iterator[Docker]:
    """One of the parity suite's dockerds."""
    with peers.running(peer, prefix=NAMESPACE) as socket:
        pid = int(Path(socket).with_name("pid").read_text())
        yield Docker(peer, socket, pid)


@contextlib.contextmanager
def floor(stub: str = "benchmarks.stub") -> Iterator[Contestant]:
    """An engine that answers at once and does nothing: what is left is the client's own time. `stub` is its module."""
    root = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with (
            (root / "log").open("wb") as log,
            _process([sys.executable, "-m", stub, f"{root}/stub.sock"], log) as process,
        ):
            _await(root / "stub.sock", process, root / "log")
            yield Contestant("floor", f"{root}/stub.sock", process.pid)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _process(command: list[str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended, and waited for, at the end."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_ENVIRONMENT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    api = Api(parse(f"unix://{socket}"), version=(1, 41))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if socket.exists():
            try:
                api.request("GET", "/_ping").read()
                return
            except SampanError:
                pass  # it does not listen yet
        time.sleep(0.02)
    raise SystemExit("the engine did not start:\n" + log.read_text(errors="replace")[-3000:])
