"""Attacks on the embedded resolver."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root


class Listener:
    """A name server of the attacker's at an address of the host: it notes the names that reach it, and knows none."""

    def __init__(self, address: str) -> None:
        self.heard: set[str] = set()
        self.address = address
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.bind((self.address, 53))
        self._streams = socket.create_server((self.address, 53))
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._stop.close()
        self._thread.join()
        for each in (self._datagrams, self._streams, self._stopped):
            each.close()

    def _serve(self) -> None:
        while True:
            ready = select.select([self._datagrams, self._streams, self._stopped], [], [])[0]
            if self._stopped in ready:
                return
            if self._datagrams in ready:
                data, sender = self._datagrams.recvfrom(4096)
                self._note(data)
                self._datagrams.sendto(data[:2] + b"\x81\x83" + data[4:], sender)  # NXDOMAIN
            if self._streams in ready:
                connection, _ = self._streams.accept()
                with connection:
                    connection.settimeout(5)
                    self._note(connection.recv(4096)[2:])

    def _note(self, data: bytes) -> None:
        name, position = [], 12
        while position < len(data) and data[position]:
            end = position + 1 + data[position]
            name.append(data[position + 1 : end].decode("ascii", "replace"))
            position = end
        self.heard.add(".".join(name))


@pytest.fixture
def forwarding_engine(busybox: bytes, tmp_path: Path) -> Iterator[RunningEngine]:
    """An engine whose containers' names are looked up by a server on its default bridge: see `listener`."""
    running = RunningEngine(tmp_path / "engine")
    with running.holding(busybox, "--dns", running.bip.partition("/")[0]):
        yield running


@pytest.fixture
def listener(forwarding_engine: RunningEngine) -> Iterator[Listener]:
    made = Listener(forwarding_engine.bip.partition("/")[0])
    yield made
    made.close()


def test_nothing_leaves_an_internal_network_by_names(
    forwarding_engine: RunningEngine, listener: Listener
) -> None:
    """CVE-2024-29018: secrets left an internal network as names that the engine passed on to the host's name servers.

    By UDP and TCP; before, while and after the container had another network. Red when `Origin.open` makes its sockets on the host.
    (The host's own servers are not asked at all for such a container: `View.forward`.)
    """
    engine = forwarding_engine
    engine.docker("network", "create", "--internal", "inside")
    engine.docker("network", "create", "outside")
    engine.docker("run", "-d", "--name", "prisoner", "--network", "inside", "busybox", "sleep", "1000")

    def ask(name: str) -> None:
        # nslookup asks by UDP; the same question by TCP, with a name of as many letters.
        engine.docker("exec", "prisoner", "nslookup", "-type=a", f"{name}.test", "127.0.0.11", check=False)
        question = f"\\0\\33\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\5{name}\\3tcp\\0\\0\\1\\0\\1"
        assert len(name) == 5
        engine.docker(
            "exec",
            "prisoner",
            "sh",
            "-c",
            f"printf '{question}' | timeout 5 nc 127.0.0.11 53 > /dev/null",
            check=False,
        )

    ask("first")
    assert listener.heard == set()
    engine.docker("network", "connect", "outside", "prisoner")
    ask("among")
    assert {"among.test", "among.tcp"} <= listener.heard, "who may reach the world may ask it"
    engine.docker("network", "disconnect", "outside", "prisoner")
    listener.heard.clear()
    ask("later")
    assert listener.heard == set()


def test_an_internal_network_has_no_way_out(forwarding_engine: RunningEngine, listener: Listener) -> None:
    """CVE-2024-29018's kin: the name servers themselves, and the world, are not to be reached from an internal network.

    Red when `endpoints` gives the sandbox a gateway and `rules._inner_rules` leaves out what drops (either is enough).
    """
    engine = forwarding_engine
    engine.docker("network", "create", "--internal", "inside")
    look = (
        "ip route; for to in 192.0.2.1 1.1.1.1; do ping -c 1 -W 1 $to && echo GOT-THROUGH; done;"
        f" nslookup -type=a direct.test {listener.address} && echo GOT-AN-ANSWER"
    )
    done = engine.docker("run", "--rm", "--network", "inside", "busybox", "sh", "-c", look, check=False)
    assert "default" not in done.stdout and "GOT-" not in done.stdout
    assert listener.heard == set()


_SERVE = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    data, sender = server.recvfrom(4096)
    answer = b"\\xc0\\x0c\\0\\x01\\0\\x01\\0\\0\\0\\x3c\\0\\x04" + bytes([192, 0, 2, 7])
    server.sendto(data[:2] + b"\\x81\\x80\\0\\x01\\0\\x01\\0\\0\\0\\0" + data[12:] + answer, sender)
"""
"""A name server for which every name is 192.0.2.7."""


@contextmanager
def name_server_in(engine: RunningEngine, container: str, address: str) -> Iterator[None]:
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
    command = ["nsenter", "--target", pid, "--net", sys.executable, "-c", _SERVE, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None and server.stdout.readline() == b"ready\n"
            yield
        finally:
            server.kill()


def test_a_containers_own_name_server_is_asked_from_where_it_is(forwarding_engine: RunningEngine) -> None:
    """The other side of CVE-2024-29018: on an internal network a name server of that network is reached, and 127.0.0.1 is the
    container's own. Red when `Names.serve` gives no `Origin`.
    """
    engine = forwarding_engine
    engine.docker("network", "create", "--internal", "--subnet", "10.240.53.0/24", "inside")
    for name, options in (
        ("server", ("--ip", "10.240.53.53")),
        ("neighbour", ("--dns", "10.240.53.53")),
        ("alone", ("--dns", "127.0.0.1")),
    ):
        engine.docker(
            "run", "-d", "--name", name, "--network", "inside", *options, "busybox", "sleep", "1000"
        )
    for where, address, asking in (("server", "10.240.53.53", "neighbour"), ("alone", "127.0.0.1", "alone")):
        with name_server_in(engine, where, address):
            done = engine.docker("exec", asking, "nslookup", "-type=a", "www.inner.test", "127.0.0.11")
            assert "192.0.2.7" in done.stdout
