"""What the everyday costs, against any Docker engine: API latency, the docker CLI, exec, memory.

    DOCKER_HOST=unix:///var/run/docker.sock python benchmarks/hot_path.py [--image busybox] [--json FILE] [PART…]

Parts: `api` (create, start, wait, remove: one client, then eight), `cli` (docker run --rm), `exec`, `memory`. Without one: all.
Speaks HTTP itself, so that the client's own time stays below a millisecond, and imports nothing of Sampan's. CPU time
is that of the engine's whole process tree, by /proc: the figure to compare on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

HOST = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
_TICK = os.sysconf("SC_CLK_TCK")


class Client:
    """One kept-alive connection; JSON in, JSON out."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(HOST.removeprefix("unix://"))
        self._file = self._socket.makefile("rb")

    @property
    def peer(self) -> int:
        """Process that listens on the socket."""
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid: int = struct.unpack("3i", credentials)[0]
        return pid

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Raises RuntimeError for what is not 2xx or 304."""
        payload = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
        self._socket.sendall(f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
        status = int(self._file.readline().split()[1])
        headers = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        data = self._body(status, headers)
        if status >= 300 and status != 304:
            raise RuntimeError(f"{method} {path}: {status} {data!r}")
        return json.loads(data) if data.strip() else None

    def _body(self, status: int, headers: dict[bytes, bytes]) -> bytes:
        if status in (204, 304):
            return b""
        if headers.get(b"transfer-encoding") != b"chunked":
            return self._file.read(int(headers.get(b"content-length", b"0")))
        data = b""
        while size := int(self._file.readline(), 16):
            data += self._file.read(size)
            self._file.readline()
        self._file.readline()
        return data

    def create(self, image: str, command: list[str], network: str = "default") -> str:
        body = {"Image": image, "Cmd": command, "HostConfig": {"NetworkMode": network}}
        identity: str = self.call("POST", "/v1.41/containers/create", body)["Id"]
        return identity

    def life(self, image: str) -> dict[str, float]:
        """Seconds that each step of one container took."""
        at = [time.perf_counter()]
        identity = self.create(image, ["true"])
        at.append(time.perf_counter())
        self.call("POST", f"/v1.41/containers/{identity}/start")
        at.append(time.perf_counter())
        self.call("POST", f"/v1.41/containers/{identity}/wait")
        at.append(time.perf_counter())
        self.call("DELETE", f"/v1.41/containers/{identity}")
        at.append(time.perf_counter())
        steps = dict(
            zip(("create", "start", "wait", "remove"), (b - a for a, b in pairwise(at)), strict=True)
        )
        return {**steps, "together": at[-1] - at[0]}


class Row(NamedTuple):
    """One line of the table."""

    name: str
    value: float
    unit: str
    detail: str = ""


# --- the engine's processes, from outside --------------------------------------------------------------------------------


def tree(root: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, pending = [], [root]
    while pending:
        found.append(pid := pending.pop())
        pending += children.get(pid, [])
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds(root: int) -> float:
    """User and system time of the tree, with that of everything it has reaped."""
    return sum(sum(map(int, fields[11:15])) for pid in tree(root) if (fields := _stat(pid))) / _TICK


def pss_megabytes(pids: list[int]) -> float:
    """Proportional set size: pages that several processes share are counted once, split among them."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def shims_of(identities: list[str]) -> list[int]:
    """containerd's shims are nobody's children: found by the container's id on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if "containerd-shim" in command and any(identity in command for identity in identities):
                found.append(int(entry.name))
    return found


# --- the parts -----------------------------------------------------------------------------------------------------------


def api(image: str, count: int) -> list[Row]:
    """Latency with one client, throughput with eight."""
    client = Client()
    for _ in range(5):
        client.life(image)
    before = cpu_seconds(client.peer)
    lives = [client.life(image) for _ in range(count)]
    cpu = (cpu_seconds(client.peer) - before) / count
    median = {step: statistics.median(life[step] for life in lives) * 1e3 for step in lives[0]}
    steps = " ".join(f"{step} {median[step]:.1f}" for step in ("create", "start", "wait", "remove"))
    best = min(life["together"] for life in lives) * 1e3
    rows = [
        Row("API create+start+wait+remove, 1 client", median["together"], "ms", f"best {best:.1f}; {steps}"),
        Row("  CPU of the engine's processes", cpu * 1e3, "ms"),
    ]
    before = cpu_seconds(client.peer)
    seconds = _at_once(8, count // 2, image)
    cpu = (cpu_seconds(client.peer) - before) / (8 * (count // 2))
    rows.append(Row("the same, 8 clients", 8 * (count // 2) / seconds, "/s"))
    rows.append(Row("  CPU of the engine's processes", cpu * 1e3, "ms"))
    return rows


def _at_once(clients: int, each: int, image: str) -> float:
    """Seconds that `clients` take for `each` containers."""

    def work() -> None:
        client = Client()
        for _ in range(each):
            client.life(image)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


def _timed(command: list[str], count: int) -> tuple[float, float]:
    """(median, best) milliseconds of a command."""
    samples = []
    for _ in range(count + 1):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        samples.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(samples[1:]), min(samples[1:])


def cli(image: str, count: int) -> list[Row]:
    """`docker run --rm`, and the client's own share: `docker version`."""
    rows = []
    for name, command in (
        ("docker version: the client's own time", ["docker", "version", "--format", "x"]),
        ("docker run --rm", ["docker", "run", "--rm", image, "true"]),
        ("docker run --rm --net none", ["docker", "run", "--rm", "--net", "none", image, "true"]),
    ):
        median, best = _timed(command, count)
        rows.append(Row(name, median, "ms", f"best {best:.1f}"))
    return rows


def executions(image: str, count: int) -> list[Row]:
    """`docker exec`."""
    client = Client()
    identity = client.create(image, ["sleep", "1000"])
    try:
        client.call("POST", f"/v1.41/containers/{identity}/start")
        before = cpu_seconds(client.peer)
        median, best = _timed(["docker", "exec", identity, "true"], count)
        cpu = (cpu_seconds(client.peer) - before) / (count + 1) * 1e3
    finally:
        client.call("DELETE", f"/v1.41/containers/{identity}?force=1")
    return [Row("docker exec", median, "ms", f"best {best:.1f}; CPU {cpu:.1f}")]


def memory(image: str, count: int) -> list[Row]:
    """PSS at rest, and what a running container costs beside its own processes."""
    client = Client()
    time.sleep(1)  # parked processes, if the engine keeps some, are being made
    own = len(tree(client.peer))
    at_rest = pss_megabytes(tree(client.peer))
    rows = [Row("memory at rest", at_rest, "MB", f"PSS of {own} processes")]
    made: list[str] = []
    try:
        for number in (1, count):
            while len(made) < number:
                made.append(client.create(image, ["sleep", "1000"], "none"))
                client.call("POST", f"/v1.41/containers/{made[-1]}/start")
            time.sleep(1)
            inside = {client.call("GET", f"/v1.41/containers/{one}/json")["State"]["Pid"] for one in made}
            around = (set(tree(client.peer)) | set(shims_of(made))) - inside
            cost = (pss_megabytes(sorted(around)) - at_rest) / number
            rows.append(Row(f"memory per running container, among {number}", cost, "MB"))
    finally:
        for one in made:
            client.call("DELETE", f"/v1.41/containers/{one}?force=1")
    return rows


PARTS: dict[str, tuple[Callable[[str, int], list[Row]], int]] = {
    "api": (api, 60),
    "cli": (cli, 20),
    "exec": (executions, 20),
    "memory": (memory, 100),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all")
    parser.add_argument("--image", default="busybox")
    parser.add_argument("--count", type=int, default=0, help="repetitions of each part")
    parser.add_argument("--json", type=Path, help="write the rows there as well")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for part in arguments.parts or PARTS:
        function, count = PARTS[part]
        for row in function(arguments.image, arguments.count or count):
            rows.append(row)
            print(f"{row.name:46} {row.value:8.1f} {row.unit:3} {row.detail}")
            sys.stdout.flush()
    if arguments.json:
        arguments.json.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
