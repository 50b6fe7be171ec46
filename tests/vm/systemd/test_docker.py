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
    host = f"unix://{tmp_path}/d.sock"
    command = [
        *(
            "dockerd",
            "--data-root",
            tmp_path / "data",
            "--exec-root",
            tmp_path / "run",
            "--pidfile",
            tmp_path / "pid",
        ),
        *("-H", host, "--bridge", "none", "--iptables=false", "--storage-driver", "vfs"),
        *("--add-runtime", f"sampan={runtime}", "--default-runtime", "sampan"),
    ]
    with (tmp_path / "log").open("wb") as log:
        daemon = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)

    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["docker", "-H", host, *arguments], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (arguments, done.stderr, (tmp_path / "log").read_text()[-2000:])
        return done.stdout.strip()

    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "d.sock").exists():
            assert daemon.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[
                -2000:
            ]
            time.sleep(0.1)
        archive = tmp_path / "busybox.tar"
        archive.write_bytes(busybox)
        run("load", "-i", str(archive))
        yield run
    finally:
        subprocess.run(
            ["docker", "-H", host, "rm", "-f", "box"], capture_output=True, timeout=120, check=False
        )
        daemon.terminate()
        daemon.wait(60)


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
