"""Debian's docker.io running its containers with Sampan's runtime, by `--add-runtime`."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

Docker = Callable[..., subprocess.CompletedProcess[str]]


def rootfs_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for directory in ("bin", "etc"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        archive.add("/bin/busybox", "bin/busybox")
        for applet in ("sh", "echo", "sleep", "id", "cat", "grep", "tty", "stty", "touch"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        entry = tarfile.TarInfo("etc/passwd")
        text = b"root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n"
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A docker command whose daemon's default runtime is ours."""
    dockerd = shutil.which("dockerd")
    if dockerd is None or shutil.which("docker") is None:
        pytest.skip("needs Docker's daemon and client: apt-get install docker.io")
    directory = tmp_path_factory.mktemp("dockerd")
    runtime = directory / "sampan-runtime"
    runtime.write_text(f"#!{sys.executable}\nfrom sampan.runtime.command.entry import main\nmain()\n")
    runtime.chmod(0o755)
    socket = f"unix://{directory}/d.sock"
    command = [
        dockerd, "--data-root", f"{directory}/data", "--exec-root", f"{directory}/run", "--pidfile", f"{directory}/pid",
        "-H", socket, "--bridge", "none", "--iptables=false", "--storage-driver", "vfs",
        "--add-runtime", f"sampan={runtime}", "--default-runtime", "sampan",
    ]  # fmt: skip
    with (directory / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)

    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "-H", socket, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            **options,
        )  # type: ignore[call-overload]

    try:
        deadline = time.monotonic() + 30
        while run("version").returncode != 0:
            assert daemon.poll() is None, (directory / "log").read_text()[-2000:]
            assert time.monotonic() < deadline
        archive = directory / "rootfs.tar"
        archive.write_bytes(rootfs_archive())
        assert run("import", str(archive), "boxed").returncode == 0
        yield run
        for container in run("ps", "-aq").stdout.split():
            run("rm", "-f", container)
    finally:
        daemon.terminate()
        daemon.wait(30)
        _unmount_beneath(directory)


def _unmount_beneath(directory: Path) -> None:
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in reversed(places):
        if place.startswith(str(directory)):
            subprocess.run(["umount", "-l", place], check=False)


def test_it_is_our_runtime_that_runs(docker: Docker) -> None:
    assert "sampan" in docker("info", "--format", "{{.DefaultRuntime}}").stdout


def test_output_and_exit_codes(docker: Docker) -> None:
    assert docker("run", "--rm", "boxed", "echo", "hello").stdout == "hello\n"
    assert docker("run", "--rm", "boxed", "sh", "-c", "exit 9").returncode == 9
    missing = docker("run", "--rm", "boxed", "nope")
    assert missing.returncode == 127
    assert 'exec: "nope": executable file not found in $PATH' in missing.stderr
    assert docker("run", "--rm", "boxed", "/etc").returncode == 126


def test_options_of_an_ordinary_container(docker: Docker, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    result = docker(
        "run", "--rm", "-u", "web", "-w", "/data", "-v", f"{tmp_path}:/data:ro", "--tmpfs", "/scratch", "-m", "64m",
        "--pids-limit", "50", "--ulimit", "nofile=100", "--security-opt", "no-new-privileges", "--cap-drop", "ALL",
        "--sysctl", "net.ipv4.ip_forward=1", "--hostname", "named", "boxed", "sh", "-c",
        "id -u; echo $PWD $HOME; cat /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_forward; ulimit -n; "
        "grep -E 'CapBnd|NoNew|Seccomp:' /proc/self/status; touch /scratch/x; touch /data/x",
    )  # fmt: skip
    assert result.stdout, result.stderr
    words = result.stdout.split()
    assert words[:6] == ["33", "/data", "/srv", "named", "1", "100"]
    assert words[6:] == ["CapBnd:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2"]
    assert result.stderr.count("Read-only file system") == 1


def test_exec_pause_update_stop(docker: Docker) -> None:
    name = f"long-{os.getpid()}"
    assert docker("run", "-d", "--name", name, "boxed", "sleep", "1000").returncode == 0
    executed = docker("exec", "-u", "5:6", "-e", "A=b", name, "sh", "-c", "id -u; id -g; echo $A; exit 3")
    assert (executed.returncode, executed.stdout) == (3, "5\n6\nb\n")
    assert docker("pause", name).returncode == 0
    assert docker("inspect", "-f", "{{.State.Status}}", name).stdout == "paused\n"
    assert docker("unpause", name).returncode == 0
    assert docker("update", "-m", "32m", "--memory-swap", "64m", name).returncode == 0
    assert "32MiB" in docker("stats", "--no-stream", name).stdout
    assert "sleep 1000" in docker("top", name).stdout
    assert docker("stop", "-t", "0", name).returncode == 0
    assert docker("inspect", "-f", "{{.State.ExitCode}}", name).stdout == "137\n"
    assert docker("rm", name).returncode == 0


@pytest.fixture
def sleeper(docker: Docker) -> Iterator[str]:
    """A running container that ends when it is told to."""
    name = f"sleeper-{os.getpid()}"
    script = "trap 'echo bye; exit 8' TERM; echo up; while :; do sleep 0.1; done"
    assert docker("run", "-d", "--name", name, "boxed", "sh", "-c", script).returncode == 0
    yield name
    docker("rm", "-f", name)


def test_restart_and_a_graceful_end(docker: Docker, sleeper: str) -> None:
    assert docker("restart", "-t", "20", sleeper).returncode == 0
    assert docker("inspect", "-f", "{{.State.Status}}", sleeper).stdout == "running\n"
    _wait_for(lambda: docker("logs", sleeper).stdout.count("up") == 2)
    assert docker("stop", "-t", "20", sleeper).returncode == 0
    assert docker("inspect", "-f", "{{.State.ExitCode}}", sleeper).stdout == "8\n"
    assert docker("logs", sleeper).stdout == "up\nbye\n" * 2
    assert docker("start", sleeper).returncode == 0
    assert docker("kill", sleeper).returncode == 0
    assert docker("wait", sleeper).stdout == "137\n"


def test_exec_of_every_kind(docker: Docker, sleeper: str) -> None:
    assert docker("exec", "-i", sleeper, "cat", input="through\n").stdout == "through\n"
    assert docker("exec", "-t", sleeper, "tty").stdout.strip().startswith("/dev/pts/")
    missing = docker("exec", sleeper, "nope")
    assert missing.returncode in (126, 127)
    assert 'exec: "nope": executable file not found in $PATH' in missing.stdout + missing.stderr
    assert docker("exec", "-d", sleeper, "touch", "/made").returncode == 0
    _wait_for(lambda: docker("exec", sleeper, "cat", "/made").returncode == 0)


def test_paused(docker: Docker, sleeper: str) -> None:
    assert docker("pause", sleeper).returncode == 0
    assert "is paused" in docker("exec", sleeper, "true").stderr
    assert docker("rm", "-f", sleeper).returncode == 0


def test_out_of_memory(docker: Docker) -> None:
    name = f"hungry-{os.getpid()}"
    script = "x=x; while :; do x=$x$x; done"
    done = docker(
        "run",
        "--name",
        name,
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "boxed",
        "sh",
        "-c",
        f"sh -c '{script}'; exit 5",
    )
    assert done.returncode in (5, 137)
    assert docker("inspect", "-f", "{{.State.OOMKilled}}", name).stdout == "true\n"
    assert docker("rm", name).returncode == 0


def test_restart_policy(docker: Docker) -> None:
    name = f"again-{os.getpid()}"
    docker("run", "-d", "--name", name, "--restart", "on-failure:2", "boxed", "sh", "-c", "exit 1")
    _wait_for(
        lambda: docker("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", name).stdout == "2 exited\n"
    )
    assert docker("rm", name).returncode == 0


def test_a_terminal_with_input(docker: Docker) -> None:
    ptydo = str(Path(__file__).parents[2] / "parity" / "bin" / "ptydo")
    host = docker("version").args[2]
    command = f"stty rows 33 cols 99; exec docker -H {host} run --rm -it boxed sh"
    done = subprocess.run(
        [
            sys.executable,
            ptydo,
            "~# |until stty size >s; grep 33 s; do sleep 1; done\n|~33 99|exit 6\n",
            "sh",
            "-c",
            command,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "33 99" in done.stdout and done.stdout.rstrip().endswith("6")


def _wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def test_terminal(docker: Docker) -> None:
    result = docker("run", "--rm", "-t", "boxed", "sh", "-c", "tty; echo done")
    assert result.stdout.split() == ["/dev/pts/0", "done"]
