"""Published ports while no engine runs, and after."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root


def test_nobody_takes_a_published_port_while_the_engine_is_dead(
    make_engine: Callable[..., RunningEngine],
) -> None:
    engine = make_engine()
    engine.docker("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "busybox", "httpd", "-f", "-h", "/etc")
    port = int(engine.docker("port", "web", "80").stdout.rpartition(":")[2])
    engine.kill()
    with pytest.raises(OSError), socket.create_server(("127.0.0.1", port)):
        pass
    assert b"root:" in _fetch("127.0.0.1", port)
    engine.start()
    with pytest.raises(OSError), socket.create_server(("127.0.0.1", port)):
        pass
    engine.docker("rm", "-f", "web")
    engine.docker("run", "-d", "-p", f"127.0.0.1:{port}:80", "busybox", "httpd", "-f", "-h", "/etc")
    assert b"root:" in _fetch("127.0.0.1", port)


def test_connections_that_only_the_engine_can_carry_wait_for_it(
    make_engine: Callable[..., RunningEngine],
) -> None:
    engine = make_engine()
    engine.docker("run", "-d", "--name", "web", "-p", "[::1]::80", "busybox", "httpd", "-f", "-h", "/etc")
    port = int(engine.docker("port", "web", "80").stdout.rpartition(":")[2])
    engine.kill()
    answer: list[bytes] = []
    with socket.create_connection(("::1", port), 30) as waiting:  # the backlog takes it
        client = threading.Thread(target=lambda: answer.append(_ask(waiting)))
        client.start()
        engine.start()
        client.join(30)
    assert answer and b"root:" in answer[0]


def test_a_stopped_containers_port_is_free_at_once(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    for name in ("one", "two"):
        engine.docker(
            "create",
            "--stop-signal",
            "KILL",
            "--name",
            name,
            "-p",
            "127.0.0.1:48123:80",
            "busybox",
            "sleep",
            "1000",
        )
    engine.docker("start", "one")
    engine.kill()
    engine.start()
    for _ in range(3):
        for going, coming in (("one", "two"), ("two", "one")):
            engine.docker("stop", going)
            engine.docker("start", coming)


def test_a_name_that_was_asked_for_meanwhile_is_answered_by_the_next_engine(
    make_engine: Callable[..., RunningEngine],
) -> None:
    engine = make_engine()
    engine.docker("network", "create", "home")
    engine.docker("run", "-d", "--name", "other", "--network", "home", "busybox", "sleep", "1000")
    engine.docker("run", "-d", "--name", "asker", "--network", "home", "busybox", "sleep", "1000")
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", "asker").stdout.strip()
    engine.kill()
    query = subprocess.Popen(
        ["nsenter", "-t", pid, "-n", "busybox", "nslookup", "other", "127.0.0.11"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        query.wait(0.3)  # not refused
    engine.start()
    answer, _ = query.communicate(timeout=30)
    assert query.returncode == 0 and "Address" in answer


def _fetch(host: str, port: int) -> bytes:
    """What the container answers; it may still be about to listen."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection((host, port), 10) as sock:
                return _ask(sock)
        except ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _ask(sock: socket.socket) -> bytes:
    sock.settimeout(30)
    sock.sendall(b"GET /passwd HTTP/1.0\r\n\r\n")
    return b"".join(iter(lambda: sock.recv(4096), b""))
