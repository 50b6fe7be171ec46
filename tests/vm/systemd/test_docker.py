"""Debian's docker.io on a systemd machine, whose driver of cgroups is then systemd, with Sampan's runtime."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Systemctl = Callable[..., str]
Docker = Callable[..., str]


@pytest.fixture
def docker(tmp_path: Path, busybox: bytes) -> Iterator[Docker]:
    runtime = tmp_path / "sampan-runtime"
    runtime.write_text(f"#!{sys.executable}\nfrom sampan.runtime.command.entry import main\nmain()\n")
    runtime.chmod(0o755)
    host, address, log = f"unix://{tmp_path}/d.sock", tmp_path / "c.sock", tmp_path / "log"
    # dockerd would give its own containerd fifteen seconds to start, which an emulated machine may exceed.
    below = f"containerd --root {tmp_path}/croot --state {tmp_path}/cstate --address {address}"
    above = (
        f"dockerd --data-root {tmp_path}/data --exec-root {tmp_path}/run --pidfile {tmp_path}/pid -H {host}"
        f" --containerd {address} --bridge none --iptables=false --storage-driver vfs"
        f" --add-runtime sampan={runtime} --default-runtime sampan"
    )
    servers: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str) -> str:
        command = ["docker", "-H", host, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (arguments, done.stderr, log.read_text()[-2000:])
        return done.stdout.strip()

    try:
        for command, socket in ((below, address), (above, tmp_path / "d.sock")):
            with log.open("ab") as file:
                servers.append(subprocess.Popen(command.split(), stdout=file, stderr=file))
            until_there(socket, servers[-1], log)
        archive = tmp_path / "busybox.tar"
        archive.write_bytes(busybox)
        run("load", "-i", str(archive))
        yield run
        subprocess.run(
            ["docker", "-H", host, "rm", "-f", "box"], capture_output=True, timeout=120, check=False
        )
    finally:
        for server in reversed(servers):
            server.terminate()
            server.wait(60)


def until_there(socket: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while not socket.exists():
        assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.1)


def test_containers_are_scopes(docker: Docker, systemctl: Systemctl) -> None:
    assert (
        docker("info", "-f", "{{.CgroupDriver}} {{.CgroupVersion}} {{.DefaultRuntime}}") == "systemd 2 sampan"
    )
    identity = docker("run", "-d", "--name", "box", "-m", "64m", "--cpus", "0.5", "busybox", "sleep", "1000")
    unit = f"docker-{identity}.scope"
    assert systemctl("is-active", unit) == "active"
    assert systemctl("show", "-pMemoryMax", "--value", unit) == str(64 << 20)
    pid = docker("inspect", "-f", "{{.State.Pid}}", "box")
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::/system.slice/{unit}\n"
    assert docker("exec", "box", "cat", "/sys/fs/cgroup/memory.max") == str(64 << 20)
    docker("update", "-m", "80m", "--memory-swap", "-1", "box")
    assert systemctl("show", "-pMemoryMax", "--value", unit) == str(80 << 20)
    assert docker("stats", "--no-stream", "--format", "{{.MemUsage}}", "box").endswith("80MiB")
    docker("rm", "-f", "box")
    assert systemctl("is-active", unit) == "inactive"
    assert docker("run", "--rm", "--name", "box", "busybox", "echo", "again") == "again"
