"""Attacks on the embedded resolver."""

from __future__ import annotations

import secrets
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root


class Listener:
    """A name server of the attacker's at a loopback address of the host: it notes the names that reach it, and knows none."""

    def __init__(self) -> None:
        self.heard: set[str] = set()
        self.address = f"127.77.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
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
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def forwarding_engine(listener: Listener, busybox: bytes, tmp_path: Path) -> Iterator[RunningEngine]:
    """An engine that forwards to the listener's address, as one does whose host has a resolver of its own on loopback."""
    running = RunningEngine(tmp_path / "engine", ("--dns", listener.address))
    running.start()
    try:
        with running.client() as client:
            client.images.load(busybox)
        yield running
    finally:
        running.close()


def test_nothing_leaves_an_internal_network_by_names(
    forwarding_engine: RunningEngine, listener: Listener
) -> None:
    """CVE-2024-29018: secrets left an internal network as names that the engine passed on to the host's name servers.

    By UDP and TCP; before, while and after the container had another network. Red when `Names.serve` gives `forward=True`, in the
    first view or when it changes one.
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
