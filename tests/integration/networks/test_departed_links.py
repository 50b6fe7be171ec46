"""A container that ended while a peer did not acknowledge its close: the orphaned connection keeps the network namespace for
minutes, and the veth pair must go all the same."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

GONE_SECONDS = 20
"""The engine gives a namespace 2 s to go by itself; an orphan keeps it for 100 (tcp_orphan_retries)."""


def links() -> set[str]:
    return {name for name in os.listdir("/sys/class/net") if name.startswith("veth")}


@contextmanager
def _connected(engine: RunningEngine) -> Iterator[set[str]]:
    """A container `client` with a connection to us whose every packet is dropped from now on; its links."""
    before = links()
    table = f"silence_{engine.bridge}"
    with socket.create_server(("0.0.0.0", 0)) as server:
        server.settimeout(20)
        port, gateway = server.getsockname()[1], engine.bip.partition("/")[0]
        talk = f"sleep 1000 | nc {gateway} {port}"  # an end of its input would close the connection before its time
        engine.docker("run", "-d", "--name", "client", "--stop-signal", "KILL", "busybox", "sh", "-c", talk)
        connection, _ = server.accept()
        _nft(
            f"add table inet {table}",
            f"add chain inet {table} in {{ type filter hook prerouting priority -400; }}",
            f"add rule inet {table} in iifname {engine.bridge} tcp dport {port} drop",
        )
        try:
            with connection:
                yield links() - before
        finally:
            _nft(f"delete table inet {table}")


def _nft(*commands: str) -> None:
    subprocess.run(["nft", "-f", "-"], input="\n".join(commands) + "\n", text=True, check=True)


def _assert_gone(names: set[str]) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while (left := names & links()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def test_the_links_of_an_ended_container_go(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    with _connected(engine) as made:
        assert made
        engine.docker("rm", "-f", "client")
        _assert_gone(made)


def test_an_engine_that_ends_takes_them_along(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    with _connected(engine) as made:
        assert made
        engine.stop()
        assert not made & links()


def test_the_next_engine_takes_what_a_killed_one_left(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    with _connected(engine) as made:
        assert made
        engine.docker("run", "-d", "--name", "keeper", "busybox", "sleep", "1000")
        kept = links()
        program = engine.docker("inspect", "-f", "{{.State.Pid}}", "client").stdout.strip()
        engine.kill()
        os.kill(int(program), 9)
        engine.start()
        assert not made & links()
        assert (kept - made) <= links()


@pytest.fixture
def parent() -> Iterator[str]:
    """A link that macvlan links can stand on."""
    name = f"mp{secrets.token_hex(3)}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}x"], check=True)
    for each in (name, f"{name}x"):
        subprocess.run(["ip", "link", "set", each, "up"], check=True)
    yield name
    subprocess.run(["ip", "link", "del", name], check=True)


@pytest.mark.parametrize("death", ["stop", "shim", "engine"])
def test_a_macvlan_links_addresses_are_free_at_once(
    death: str, make_engine: Callable[..., RunningEngine], parent: str
) -> None:
    """The link has no end with us: it is removed from within, or the container could not come back for minutes."""
    engine = make_engine()
    engine.docker(
        "network", "create", "-d", "macvlan", "--subnet", "10.77.0.0/24", "-o", f"parent={parent}", "mv"
    )
    server = "sleep 1000 | nc -l -p 99"
    engine.docker(
        "run", "-d", "--name", "peer", "--network", "mv", "--ip", "10.77.0.3", "busybox", "sh", "-c", server
    )
    talk = "until sleep 1000 | nc 10.77.0.3 99; do :; done"
    engine.docker(
        *("run", "-d", "--name", "client", "--network", "mv", "--ip", "10.77.0.2"),
        *("--mac-address", "02:42:0a:4d:00:02", "--stop-signal", "KILL", "busybox", "sh", "-c", talk),
    )
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", "client").stdout.strip()
    peer = engine.docker("inspect", "-f", "{{.State.Pid}}", "peer").stdout.strip()
    _wait_for_connection(pid)
    subprocess.run(["nsenter", "-t", peer, "-n", "ip", "link", "set", "eth0", "down"], check=True)
    if death == "engine":
        engine.kill()
        engine.start()
    if death == "shim":
        os.kill(_shim_of(engine, "client"), 9)
        engine.docker("wait", "client")
    else:
        engine.docker("stop", "client")
    engine.docker("start", "client")


def _wait_for_connection(pid: str) -> None:
    established = " 01 "
    deadline = time.monotonic() + 20
    while established not in Path(f"/proc/{pid}/net/tcp").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _shim_of(engine: RunningEngine, name: str) -> int:
    id = engine.docker("inspect", "-f", "{{.Id}}", name).stdout.strip()
    return int(json.loads((engine.exec_root / "shims" / id / "state.json").read_text())["pid"])
