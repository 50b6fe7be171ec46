"""The engine comes when it is needed, once however many need it, and leaves when nobody does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import sampan
from running_engine import RunningEngine

pytestmark = pytest.mark.root

SCRIPT = Path(__file__).with_name("on_demand.py")
LEAVE_SECONDS = 20.0


class Place:
    """Where an engine on demand would be."""

    def __init__(self, root: Path) -> None:
        self.engine = RunningEngine(root)  # its names; it is never started as such
        self.arguments = (
            *("--data-root", str(self.engine.data_root), "--exec-root", str(self.engine.exec_root)),
            *("--bridge", self.engine.bridge, "--bip", self.engine.bip),
        )
        root.mkdir(parents=True, exist_ok=True)

    def connect(self) -> sampan.Engine:
        return sampan.connect(self.engine.host, command=sampan.EngineCommand(self.arguments))

    def client(self, rounds: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), str(self.engine.socket), str(rounds), *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def engines(self) -> set[int]:
        """Process ids of the engines that run here now."""
        found = set()
        for entry in os.listdir("/proc"):
            try:
                command = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
                continue
            if b"sampan.serve" in command and str(self.engine.data_root).encode() in command:
                found.add(int(entry))
        return found

    def wait_until_left(self) -> None:
        deadline = time.monotonic() + LEAVE_SECONDS
        while self.engines():
            assert time.monotonic() < deadline, "the engine does not leave"
            time.sleep(0.05)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("SAMPAN_IDLE_SECONDS", "0.5")
    made = Place(tmp_path / "p")
    yield made
    made.wait_until_left()


def answers(clients: list[subprocess.Popen[str]]) -> list[str]:
    lines = []
    for client in clients:
        out, err = client.communicate(timeout=50)
        assert client.returncode == 0, err
        lines += out.split()
    return lines


def test_twenty_at_once_make_one_engine(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPAN_IDLE_SECONDS", "5")
    seen = answers([place.client(1) for _ in range(20)])
    assert len(seen) == 20 and len(set(seen)) == 1
    assert place.engines() == {int(seen[0])}


def test_clients_that_come_while_it_leaves_are_served(place: Place) -> None:
    """Idle seconds and pauses are of one size: engines come and go under the clients' feet."""
    seen = answers([place.client(8) for _ in range(3)])
    assert len(seen) == 24


def test_it_stays_while_containers_run_and_inherits_nothing(
    place: Place, busybox: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "x")
    with place.connect() as engine:
        engine.images.load(busybox)
        container = engine.run("busybox", ["sleep", "100"], detach=True, network="none")
    (pid,) = place.engines()
    process = Path("/proc", str(pid))
    assert b"SECRET_OF_THE_CALLER" not in (process / "environ").read_bytes()
    assert os.readlink(process / "cwd") == "/" and os.getsid(pid) == pid
    assert "Umask:\t0022" in (process / "status").read_text()
    time.sleep(2)  # four times as long as it would stay without the container
    assert place.engines() == {pid}
    with place.connect() as engine:
        assert engine.containers.get(container.id).status == "running"
        engine.containers.get(container.id).remove(force=True)
    place.wait_until_left()
    assert not place.engine.socket.exists()


def test_one_client_object_outlives_engines(place: Place) -> None:
    with place.connect() as engine:
        first = engine.info()["ID"]
        engine.api.close()  # its connections: the engine is idle then
        place.wait_until_left()
        assert engine.info()["ID"] == first


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    command = sampan.EngineCommand(("--mtu", "many"))
    with (
        sampan.connect(f"unix://{tmp_path}/e.sock", command=command) as engine,
        pytest.raises(Exception, match=r'ended at its start; .*\n  invalid argument "many" for "--mtu" flag'),
    ):
        engine.ping()


def test_the_command_starts_the_engine_at_its_usual_place(tmp_path: Path) -> None:
    """In namespaces of its own: the usual place is the machine's."""
    script = f"""
        set -e
        mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib; ip link set lo up
        export SAMPAN_IDLE_SECONDS=0.5; unset DOCKER_HOST
        sampan() {{ {sys.executable} -m sampan.cli "$@"; }}
        sampan version --format '{{{{.Server.Version}}}}' | grep -q .
        eval "$(sampan env)"; test "$DOCKER_HOST" = unix:///run/sampan/engine.sock
        docker version --format '{{{{.Server.Version}}}}' | grep -q .
        pid=$(pgrep -f 'sampan[.]serve --on-demand -H unix:///run/sampan/engine.sock')
        while kill -0 $pid 2>/dev/null; do sleep 0.1; done   # it leaves
        test ! -e /run/sampan/engine.sock
        sampan ps -q                   # and comes again
    """
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_what_its_user_stopped_stays_so_when_an_idle_engine_comes_back(place: Place, busybox: bytes) -> None:
    """For dockerd's `always` a stop holds until the next start of the engine; that one is idle is not one."""
    with place.connect() as engine:
        engine.images.load(busybox)
        web = engine.run("busybox", ["sleep", "100"], detach=True, network="none", restart="always")
        web.stop(timeout=0)
    place.wait_until_left()
    with place.connect() as engine:
        assert engine.containers.get(web.id).status == "exited"
        engine.containers.get(web.id).remove()
