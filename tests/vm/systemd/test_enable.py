"""`sampan system enable`: any client starts the engine, which leaves when idle and comes again; `disable` takes it away."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Systemctl = Callable[..., str]

IDLE_SECONDS = 10
HOST = "unix:///run/sampan/engine.sock"
DROP_IN = Path("/etc/systemd/system/sampan.service.d/test.conf")


def said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr, journal())
    return done.stdout


def sampan(*arguments: str) -> str:
    return said(sys.executable, "-m", "sampan.cli", *arguments)


def docker(*arguments: str, host: str = HOST) -> str:
    return said("docker", "-H", host, *arguments)


def journal() -> str:
    return subprocess.run(
        ["journalctl", "-n", "40", "-u", "sampan.service", "--no-pager"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout


@pytest.fixture
def enabled() -> Iterator[None]:
    DROP_IN.parent.mkdir()
    DROP_IN.write_text(f"[Service]\nEnvironment=SAMPAN_IDLE_SECONDS={IDLE_SECONDS}\n")
    assert "The engine starts with the first client" in sampan("system", "enable")
    yield
    sampan("system", "disable")
    DROP_IN.unlink()
    DROP_IN.parent.rmdir()
    for place in ("/run/sampan", "/var/lib/sampan"):
        shutil.rmtree(place)


def until_it_is(state: str, systemctl: Systemctl) -> None:
    deadline = time.monotonic() + 60
    while systemctl("is-active", "sampan.service") != state:
        assert time.monotonic() < deadline, journal()
        time.sleep(0.1)


def test_the_engine_of_a_unit(enabled: None, systemctl: Systemctl, busybox: bytes, tmp_path: Path) -> None:
    assert systemctl("is-active", "sampan.socket") == "active"
    assert systemctl("is-enabled", "sampan.socket", "sampan.service") == "enabled\nenabled"
    assert systemctl("is-active", "sampan.service") == "inactive"
    assert docker("version", "-f", "{{.Server.Os}}") == "linux\n"  # the first client starts it
    assert systemctl("is-active", "sampan.service") == "active"
    archive = tmp_path / "busybox.tar"
    archive.write_bytes(busybox)
    docker("load", "-i", str(archive))
    assert docker("run", "--rm", "-p", "127.0.0.1::80", "busybox", "echo", "hello") == "hello\n"
    until_it_is("inactive", systemctl)  # it leaves when idle
    assert systemctl("show", "-pResult", "--value", "sampan.service") == "success"
    assert (
        sampan("run", "--rm", "busybox", "echo", "again") == "again\n"
    )  # and comes again, for the sampan command, too

    docker("run", "-d", "--name", "box", "--restart", "always", "busybox", "sleep", "1000")
    pid = docker("inspect", "-f", "{{.State.Pid}}", "box")
    time.sleep(IDLE_SECONDS + 2)  # a running container keeps it
    assert systemctl("is-active", "sampan.service") == "active"
    main = systemctl("show", "-pMainPID", "--value", "sampan.service")
    subprocess.run(["kill", "-KILL", main], check=True)
    deadline = time.monotonic() + 60
    while systemctl("show", "-pMainPID", "--value", "sampan.service") in (main, "0"):
        assert time.monotonic() < deadline, journal()
        time.sleep(0.1)
    assert (
        docker("inspect", "-f", "{{.State.Pid}}", "box") == pid
    )  # systemd started it again; the container lived on
    docker("exec", "box", "true")
    systemctl("restart", "sampan.service")
    deadline = time.monotonic() + 60
    while docker("ps", "--format", "{{.Names}}") != "box\n":  # as after a restart of the machine
        assert time.monotonic() < deadline, journal()
    docker("rm", "-f", "box")
    docker("rmi", "busybox")


def test_another_socket_and_its_end(systemctl: Systemctl, tmp_path: Path) -> None:
    sampan("system", "enable", "--socket", "/run/sampan-test/docker.sock")
    socket = Path("/run/sampan-test/docker.sock")
    assert socket.is_socket() and socket.stat().st_mode & 0o777 == 0o660
    assert docker("info", "-f", "{{.CgroupVersion}}", host=f"unix://{socket}") == "2\n"
    sampan("system", "disable")
    assert systemctl("is-active", "sampan.service", "sampan.socket").split() == ["inactive", "inactive"]
    assert not Path("/etc/systemd/system/sampan.socket").exists()
    assert systemctl("show", "-pLoadState", "--value", "sampan.service") == "not-found"
    for place in ("/run/sampan", "/run/sampan-test", "/var/lib/sampan"):
        shutil.rmtree(place)
