"""Where the engine answers: unix, TCP and passed sockets at once; readiness as a supervisor is told; engines side by side."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

MakeEngine = Callable[..., RunningEngine]


def docker(host: str, *arguments: str) -> str:
    return subprocess.run(
        ["docker", "-H", host, *arguments], capture_output=True, text=True, check=True, timeout=30
    ).stdout


@contextmanager
def supervised(
    engine: RunningEngine, listening: list[socket.socket], notices: socket.socket
) -> Iterator[subprocess.Popen[bytes]]:
    """Start it as systemd does: sockets from descriptor 3 on, LISTEN_PID its own, states to NOTIFY_SOCKET."""
    moves = " ".join(f"{3 + number}<&{each.fileno()}" for number, each in enumerate(listening))
    engine.log_path.parent.mkdir(parents=True, exist_ok=True)
    with engine.log_path.open("ab") as log:
        process = subprocess.Popen(
            [
                *("bash", "-c", f'exec {moves}; export LISTEN_PID=$$; exec "$@"', "supervisor"),
                *(sys.executable, "-m", "sampan.serve", "-H", "fd://", "-H", engine.host),
                *(
                    "--data-root",
                    engine.data_root,
                    "--exec-root",
                    engine.exec_root,
                    "--bridge=none",
                    "--live-restore",
                ),
            ],
            env={**os.environ, "LISTEN_FDS": str(len(listening)), "NOTIFY_SOCKET": notices.getsockname()},
            pass_fds=[each.fileno() for each in listening],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def test_sockets_of_a_supervisor(tmp_path: Path, busybox: bytes) -> None:
    """Who connects before the engine is there is answered; the sockets outlive it; its end and its reload are told."""
    engine = RunningEngine(tmp_path / "engine")
    path = tmp_path / "passed.sock"
    with (
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket() as tcp,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices,
    ):
        unix.bind(str(path))
        unix.listen()
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        notices.bind(str(tmp_path / "notices"))
        notices.settimeout(30)
        early = subprocess.Popen(
            ["docker", "-H", f"unix://{path}", "version", "--format", "{{.Server.Version}}"],
            stdout=subprocess.PIPE,
        )
        with supervised(engine, [unix, tcp], notices) as process:
            assert early.communicate(timeout=40)[0].strip()
            assert notices.recv(100) == b"READY=1"
            for host in (f"unix://{path}", f"tcp://127.0.0.1:{tcp.getsockname()[1]}", engine.host):
                assert docker(host, "info", "--format", "{{.DockerRootDir}}").strip() == str(engine.data_root)
            with engine.client() as client:
                client.images.load(busybox)
            engine.docker("run", "-d", "--name=lasting", "--net=none", "busybox", "sleep", "100")
            process.send_signal(signal.SIGHUP)
            assert notices.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert notices.recv(100) == b"READY=1"
        assert notices.recv(100) == b"STOPPING=1"
        assert path.exists() and not engine.socket.exists()
        with supervised(engine, [unix, tcp], notices):
            assert (
                docker(f"unix://{path}", "inspect", "--format", "{{.State.Status}}", "lasting") == "running\n"
            )
            docker(f"unix://{path}", "rm", "-f", "lasting")


def test_unix_and_tcp_at_once(tmp_path: Path, make_engine: MakeEngine) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    second = tmp_path / "second.sock"
    engine = make_engine("-H", f"unix://{second}", "-H", f"tcp://127.0.0.1:{port}", image=False)
    ids = {
        docker(host, "info", "--format", "{{.ID}}")
        for host in (engine.host, f"unix://{second}", f"tcp://127.0.0.1:{port}")
    }
    assert len(ids) == 1
    engine.stop()
    assert not second.exists()


def test_engines_side_by_side(make_engine: MakeEngine) -> None:
    """The same names, ports of their own, traffic on all; one that stops or is killed takes nothing from the others."""
    engines = [make_engine() for _ in range(3)]
    for number, engine in enumerate(engines):
        engine.docker("network", "create", "net")
        engine.docker("volume", "create", "vol")
        engine.docker(
            *(
                "run",
                "-d",
                "--name=web",
                "--net=net",
                "-v=vol:/www",
                "-p=127.0.0.1::80",
                "--stop-signal=KILL",
                "busybox",
            ),
            *("sh", "-c", f"echo engine {number} > /www/index.html; exec httpd -f -h /www"),
        )

    def fetch(engine: RunningEngine) -> str:
        """From a second container, by the name that the engine's resolver knows."""
        address = "$(nslookup web 127.0.0.11 | awk '/^Address/ {a = $NF} END {print a}')"
        request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w5 $a 80"
        script = f'a={address}; until r=$({request}) && [ "$r" ]; do sleep 0.1; done; echo "$r" | tail -1'
        return engine.docker("run", "--rm", "--net=net", "busybox", "sh", "-c", script).stdout

    places = {engine: engine.docker("port", "web", "80").stdout.strip() for engine in engines}

    def published(engine: RunningEngine) -> str:
        host, _, port = places[engine].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.makefile().read().splitlines()[-1]

    def all_answer(numbers: set[int]) -> None:
        for number in numbers:
            assert fetch(engines[number]) == f"engine {number}\n"
            assert published(engines[number]) == f"engine {number}"
            assert engines[number].docker("ps", "-q").stdout.count("\n") == 1

    all_answer({0, 1, 2})
    subnets = {
        json.loads(engine.docker("network", "inspect", name).stdout)[0]["IPAM"]["Config"][0]["Subnet"]
        for engine in engines
        for name in ("net", "bridge")
    }
    assert len(subnets) == 6
    engines[0].stop()
    all_answer({1, 2})
    engines[1].kill()
    all_answer({2})
    assert published(engines[1]) == "engine 1"
    engines[0].start()
    engines[1].start()
    engines[0].docker("start", "web")
    places[engines[0]] = engines[0].docker("port", "web", "80").stdout.strip()
    all_answer({0, 1, 2})
