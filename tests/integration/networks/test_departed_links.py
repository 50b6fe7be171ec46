"""A container that ended while a peer did not acknowledge its close: the orphaned connection keeps the network namespace for
minutes, and the veth pair must go all the same."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
