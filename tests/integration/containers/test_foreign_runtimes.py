"""Containers of Debian's runc and crun (`docker run --runtime`), in the same scenarios as those of Sampan's own runtime."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

PTYDO = str(Path(__file__).parents[2] / "parity" / "bin" / "ptydo")
NATIVE, RUNC, CRUN = "runc", "debian-runc", "crun"
_CONFIGURATION = {
    "runtimes": {
        RUNC: {"path": "/usr/sbin/runc", "runtimeArgs": ["--debug"]},
        "missing": {"path": "/usr/sbin/no-such-runtime"},
        "failing": {"path": "/bin/sh", "runtimeArgs": ["-c", "echo out of order >&2; exit 3"]},
    }
}


@pytest.fixture(scope="module")
def module_engine(tmp_path_factory: pytest.TempPathFactory, busybox: bytes) -> Iterator[RunningEngine]:
    root = tmp_path_factory.mktemp("foreign")
    file = root / "daemon.json"
    file.write_text(json.dumps(_CONFIGURATION))
    running = RunningEngine(root, ["--config-file", str(file), "--add-runtime", f"{CRUN}=/usr/bin/crun"])
    with running.holding(busybox):
        yield running


@pytest.fixture
def engine(module_engine: RunningEngine) -> Iterator[RunningEngine]:
    yield module_engine
    module_engine.remove_everything()


@pytest.fixture(params=[NATIVE, RUNC, CRUN])
def runtime(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(engine: RunningEngine, runtime: str) -> Run:
    """`docker run --runtime <this one>`; exit codes are the caller's to judge."""

    def docker_run(*arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        return engine.docker("run", "--runtime", runtime, *arguments, check=False, input=input)

    return docker_run


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def inspect(engine: RunningEngine, name: str, form: str) -> str:
    return engine.docker("inspect", "-f", form, name).stdout.strip()


def typed(engine: RunningEngine, keys: str, *arguments: str) -> str:
    """What a terminal shows on which `docker …` runs and `keys` are typed, and the exit code."""
    docker = shlex.join(["docker", "-H", engine.host, *arguments])
    command = [sys.executable, PTYDO, keys, "sh", "-c", f"stty rows 33 cols 99; exec {docker}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


# --- one run


def test_streams_and_exit_codes(run: Run) -> None:
    done = run("--rm", "-i", "busybox", "sh", "-c", "cat; echo bad >&2; exit 7", input="good\n")
    assert (done.stdout, done.stderr, done.returncode) == ("good\n", "bad\n", 7)
    assert len(run("--rm", "busybox", "sh", "-c", "yes 0123456789 | head -c 3000000").stdout) == 3_000_000


def test_programs_that_cannot_run(run: Run, engine: RunningEngine) -> None:
    missing = run("--name", "missing", "busybox", "nosuch")
    assert missing.returncode == 127
    assert "failed to create shim task: OCI runtime create failed: " in missing.stderr
    assert "nosuch" in missing.stderr and "not found in $PATH" in missing.stderr
    assert inspect(engine, "missing", "{{.State.Status}} {{.State.ExitCode}}") == "created 127"
    refused = run("--rm", "busybox", "/etc/passwd")
    assert refused.returncode == 126 and "permission denied: unknown" in refused.stderr
    nowhere = run("--rm", "-v", "/etc/passwd:/etc", "busybox", "true")
    assert nowhere.returncode == 127 if "no such" in nowhere.stderr else nowhere.returncode in (125, 127)
    assert "OCI runtime create failed: " in nowhere.stderr


def test_the_hosts_null_device_stays_the_hosts(run: Run, engine: RunningEngine) -> None:
    before = os.stat("/dev/null")
    assert run("-d", "--name", "other", "-u", "1000", "busybox", "sleep", "1000").returncode == 0
    assert engine.docker("exec", "-u", "1001", "other", "true", check=False).returncode == 0
    assert engine.docker("exec", "-d", "-u", "1001", "other", "sh", "-c", "echo x").returncode == 0
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_who_it_runs_as(run: Run) -> None:
    done = run(
        "--rm",
        "-u",
        "1000:50",
        "--group-add",
        "7",
        "busybox",
        "sh",
        "-c",
        "id -u; id -G; echo $HOME; grep -E 'Cap(Eff|Bnd)' /proc/self/status",
    )
    assert done.stdout.split() == [
        "1000",
        "50",
        "7",
        "/",
        "CapEff:",
        "0000000000000000",
        "CapBnd:",
        "00000000a80425fb",
    ]
    named = run("--rm", "-u", "nobody", "busybox", "id", "-un")
    assert named.stdout == "nobody\n"
    unknown = run("--rm", "-u", "odd", "busybox", "id")
    assert unknown.returncode == 125
    assert "unable to find user odd: no matching entries in passwd file" in unknown.stderr
    caps = run(
        "--rm",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "NET_ADMIN",
        "busybox",
        "grep",
        "CapEff",
        "/proc/self/status",
    )
    assert caps.stdout.split()[1] == "0000000000001000"
    assert "Seccomp:\t2" in run("--rm", "busybox", "cat", "/proc/self/status").stdout  # fmt: skip


def test_what_it_is_given(run: Run, engine: RunningEngine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    flags = (
        "-v",
        "kept:/kept",
        "-v",
        f"{tmp_path}:/bound:ro",
        "--tmpfs",
        "/fast",
        "-w",
        "/new/place",
        "--read-only",
    )
    flags += (
        "--hostname",
        "me",
        "--ulimit",
        "nofile=123",
        "--sysctl",
        "net.ipv4.ip_forward=0",
        "--shm-size",
        "1m",
    )
    script = """
        pwd; hostname; ulimit -n; cat /bound/file; echo x > /kept/x; echo y > /fast/y
        for place in / /bound; do touch $place/z 2>/dev/null || echo ro; done
        df /dev/shm | tail -1 | awk '{print $2}'
    """
    done = run("--rm", *flags, "busybox", "sh", "-c", script)
    assert done.stdout.split("\n") == ["/new/place", "me", "123", "of the host", "ro", "ro", "1024", ""], (
        done.stderr
    )
    assert run("--rm", "-v", "kept:/kept", "busybox", "cat", "/kept/x").stdout == "x\n"


@pytest.fixture
def shared_directory(tmp_path: Path) -> Iterator[Path]:
    """A mount of the host's whose changes propagate."""
    place = tmp_path / "shared"
    (place / "inner").mkdir(parents=True)
    subprocess.run(["mount", "--bind", place, place], check=True)
    subprocess.run(["mount", "--make-shared", place], check=True)
    yield place
    subprocess.run(["umount", "-lR", place], check=True)


def test_propagation(run: Run, engine: RunningEngine, shared_directory: Path) -> None:
    inner, seen = shared_directory / "inner", "grep -c from-the-host /proc/mounts"
    flags = ("--rm", "--privileged", "-v", f"{shared_directory}:/x:rshared")
    out = run(*flags, "busybox", "mount", "-t", "tmpfs", "from-inside", "/x/inner")
    assert out.returncode == 0, out.stderr
    assert f"from-inside {inner} " in Path("/proc/mounts").read_text()
    subprocess.run(["umount", inner], check=True)
    for mode, count in (("rshared", "1"), ("rslave", "1"), ("rprivate", "0")):
        run("-d", "--name", mode, "-v", f"{shared_directory}:/x:{mode}", "busybox", "sleep", "1000")
        subprocess.run(["mount", "-t", "tmpfs", "from-the-host", inner], check=True)
        assert engine.docker("exec", mode, "sh", "-c", seen, check=False).stdout.strip() == count, mode
        engine.docker("rm", "-f", mode)
        assert f"from-the-host {inner} " in Path("/proc/mounts").read_text(), "its end is not the mount's"
        subprocess.run(["umount", inner], check=True)


def test_a_terminal(engine: RunningEngine, runtime: str) -> None:
    shown = typed(
        engine, "~# |tty; stty size\n|~pts|exit 5\n", "run", "--rm", "-it", "--runtime", runtime, "busybox"
    )
    assert re.search(r"/dev/(pts/0|console)", shown) and shown.rstrip().endswith("5")
    assert "33 99" in shown


def test_an_init(run: Run) -> None:
    done = run("--rm", "--init", "busybox", "sh", "-c", "readlink /proc/1/exe >/dev/null; echo $$; exit 9")
    assert done.returncode == 9 and done.stdout.strip() != "1"


def test_out_of_memory(run: Run, engine: RunningEngine) -> None:
    done = run(
        "--name", "hungry", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "exec tail /dev/zero"
    )
    assert done.returncode == 137
    assert inspect(engine, "hungry", "{{.State.OOMKilled}}") == "true"


# --- life


def test_life(run: Run, engine: RunningEngine, runtime: str) -> None:
    assert run("-d", "--name", "life", "busybox", "sleep", "1000").returncode == 0
    assert inspect(engine, "life", "{{.HostConfig.Runtime}}") == runtime
    assert engine.docker("exec", "life", "sh", "-c", "exit 3", check=False).returncode == 3
    assert engine.docker("exec", "-i", "life", "cat", input="through\n").stdout == "through\n"
    missing = engine.docker("exec", "life", "nosuch", check=False)
    assert missing.returncode == 127 and "OCI runtime exec failed: " in missing.stdout + missing.stderr
    refused = engine.docker("exec", "life", "/etc/passwd", check=False)
    assert refused.returncode == 126 and "permission denied" in refused.stdout + refused.stderr
    who = engine.docker(
        "exec", "-u", "nobody", "-w", "/tmp", "-e", "A=b", "life", "sh", "-c", "id -un; pwd; echo $A"
    )
    assert who.stdout.split() == ["nobody", "/tmp", "b"]
    assert "sleep 1000" in engine.docker("top", "life").stdout
    engine.docker("update", "--memory", "64m", "--memory-swap", "64m", "--cpus", "0.5", "life")
    usage = engine.docker("stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "life").stdout
    assert "/ 64MiB 1" in usage
    engine.docker("kill", "-s", "WINCH", "life")
    engine.docker("stop", "-t", "0", "life")
    assert inspect(engine, "life", "{{.State.ExitCode}}") == "137"
    engine.docker("start", "life")
    engine.docker("restart", "-t", "0", "life")
    engine.docker("kill", "life")
    assert engine.docker("wait", "life").stdout == "137\n"


def test_pause(run: Run, engine: RunningEngine) -> None:
    run("-d", "--name", "paused", "busybox", "sleep", "1000")
    pid = int(inspect(engine, "paused", "{{.State.Pid}}"))
    engine.docker("pause", "paused")
    assert "(Paused)" in engine.docker("ps").stdout
    assert "is paused" in engine.docker("exec", "paused", "true", check=False).stderr
    engine.docker("unpause", "paused")
    assert engine.docker("exec", "paused", "echo", "awake").stdout == "awake\n"
    engine.docker("rm", "-f", "paused")
    assert not Path(f"/proc/{pid}").exists()


def test_removing_a_paused_one(run: Run, engine: RunningEngine) -> None:
    run("-d", "--name", "paused", "busybox", "sleep", "1000")
    engine.docker("pause", "paused")
    engine.docker("rm", "-f", "paused")
    assert engine.docker("ps", "-aq").stdout == ""


def test_exec_on_a_terminal(run: Run, engine: RunningEngine) -> None:
    run("-d", "--name", "home", "busybox", "sleep", "1000")
    shown = typed(engine, "~# |tty\n|~/dev/pts|exit 6\n", "exec", "-it", "home", "sh")
    assert "/dev/pts/" in shown and shown.rstrip().endswith("6")


def test_attach(run: Run, engine: RunningEngine) -> None:
    run("-dit", "--name", "shell", "busybox")
    shown = typed(engine, "\n|~# |echo $((6*7))\n|~42|exit 4\n", "attach", "shell")
    assert "42" in shown and shown.rstrip().endswith("4")
    assert "echo" in engine.docker("logs", "shell").stdout


def test_stop_reaches_the_program(run: Run, engine: RunningEngine) -> None:
    run(
        "-d",
        "--name",
        "polite",
        "busybox",
        "sh",
        "-c",
        "trap 'echo bye; exit 8' TERM; echo up; while :; do sleep 0.1; done",
    )
    until(lambda: "up" in engine.docker("logs", "polite").stdout)
    engine.docker("stop", "-t", "20", "polite")
    assert inspect(engine, "polite", "{{.State.ExitCode}}") == "8"
    assert engine.docker("logs", "polite").stdout == "up\nbye\n"


def test_health_checks(run: Run, engine: RunningEngine) -> None:
    every = ("--health-interval", "200ms", "--health-timeout", "5s", "--health-retries", "1")
    run(
        "-d",
        "--name",
        "sound",
        *every,
        "--health-cmd",
        "test -d /etc && echo fine",
        "busybox",
        "sleep",
        "1000",
    )
    run("-d", "--name", "ill", *every, "--health-cmd", "exit 1", "busybox", "sleep", "1000")
    until(lambda: inspect(engine, "sound", "{{.State.Health.Status}}") == "healthy")
    until(lambda: inspect(engine, "ill", "{{.State.Health.Status}}") == "unhealthy")
    assert "fine" in inspect(engine, "sound", "{{(index .State.Health.Log 0).Output}}")


# --- network


def test_ports_and_names(run: Run, engine: RunningEngine) -> None:
    engine.docker("network", "create", "net")
    served = ("sh", "-c", "mkdir /www; echo welcome > /www/index.html; exec httpd -f -p 80 -h /www")
    run("-d", "--name", "web", "--network", "net", "-p", "127.0.0.1::80", "busybox", *served)
    until(lambda: "httpd" in engine.docker("top", "web").stdout)
    port = engine.docker("port", "web", "80").stdout.strip()
    until(lambda: _answers(f"http://{port}/", "welcome\n"))
    found = run("--rm", "--network", "net", "busybox", "wget", "-q", "-O", "-", "http://web/")
    assert found.stdout == "welcome\n"
    shared = run(
        "--rm", "--network", "container:web", "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1/"
    )
    assert shared.stdout == "welcome\n"


def _answers(url: str, text: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.read().decode() == text)
    except OSError:
        return False


def test_the_hosts_namespaces(run: Run) -> None:
    done = run("--rm", "--network", "host", "--pid", "host", "--uts", "host", "busybox", "sh", "-c",
               "for name in net pid uts; do readlink /proc/self/ns/$name; done")  # fmt: skip
    assert done.stdout.split() == [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "pid", "uts")]


def test_orphans_in_the_hosts_pid_namespace_leave_no_zombies(run: Run, engine: RunningEngine) -> None:
    run("-d", "--name", "parent", "--pid", "host", "busybox", "sleep", "1000")
    engine.docker("exec", "parent", "sh", "-c", "sh -c 'sleep 0.2 & sleep 0.1 &' & exit 0")
    shim = _shim_of(engine, "parent")
    until(lambda: "Z" not in _states_of_children(shim))


def _states_of_children(pid: int) -> str:
    states = ""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            states += Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2][0]
        except FileNotFoundError:
            continue
    return states


def _shim_of(engine: RunningEngine, name: str) -> int:
    pid = int(inspect(engine, name, "{{.State.Pid}}"))
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


# --- what survives, what does not


def test_a_killed_engine(make_engine: Callable[..., RunningEngine], runtime: str) -> None:
    own = make_engine("--add-runtime", f"{RUNC}=/usr/sbin/runc", "--add-runtime", f"{CRUN}=/usr/bin/crun")
    script = "mkdir /www; echo welcome > /www/i; httpd -p 80 -h /www; while [ ! -e /end ]; do echo tick; sleep 0.1; done; exit 11"
    own.docker(
        "run",
        "-d",
        "--name",
        "ticking",
        "--runtime",
        runtime,
        "-p",
        "127.0.0.1::80",
        "busybox",
        "sh",
        "-c",
        script,
    )
    port = own.docker("port", "ticking", "80").stdout.strip()
    own.docker(
        "run", "-d", "--name", "short", "--runtime", runtime, "busybox", "sh", "-c", "sleep 1; exit 12"
    )
    pid = inspect(own, "ticking", "{{.State.Pid}}")
    own.kill()
    until(lambda: _answers(f"http://{port}/i", "welcome\n"))
    own.start()
    assert inspect(own, "ticking", "{{.State.Pid}}") == pid
    assert own.docker("wait", "short").stdout == "12\n"
    until(lambda: _answers(f"http://{port}/i", "welcome\n"))
    own.docker("exec", "ticking", "touch", "/end")
    assert own.docker("wait", "ticking").stdout == "11\n"
    assert set(own.docker("logs", "ticking").stdout.split()) == {"tick"}


def test_a_killed_shim_ends_its_container(run: Run, engine: RunningEngine) -> None:
    run("-d", "--name", "lost", "busybox", "sleep", "1000")
    pid = int(inspect(engine, "lost", "{{.State.Pid}}"))
    os.kill(_shim_of(engine, "lost"), signal.SIGKILL)
    until(lambda: inspect(engine, "lost", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137")
    until(lambda: not Path(f"/proc/{pid}").exists())
    engine.docker("start", "lost")
    assert engine.docker("exec", "lost", "echo", "again").stdout == "again\n"


def test_a_shim_killed_while_the_runtime_works(
    make_engine: Callable[..., RunningEngine], tmp_path: Path
) -> None:
    """Half a container does not come to be whole in nobody's charge."""
    slow, working = tmp_path / "slow-runtime", tmp_path / "working"
    slow.write_text(f"""#!/bin/sh
        case " $* " in *" create "*) echo $PPID $$ > {working}.new; mv {working}.new {working}; exec sleep 600;; esac
        exec /usr/sbin/runc "$@"
    """)
    slow.chmod(0o755)
    own = make_engine("--add-runtime", f"slow={slow}")
    command = ["docker", "-H", own.host, "run", "--name", "half", "--runtime", "slow", "busybox", "true"]
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(working.exists)
    shim, program = map(int, working.read_text().split())
    os.kill(shim, signal.SIGKILL)
    _, errors = client.communicate(timeout=30)
    assert client.returncode == 125 and "the shim ended while it made the container" in errors
    until(lambda: not Path(f"/proc/{program}").exists())
    assert inspect(own, "half", "{{.State.Status}}") == "created"
    assert os.listdir(own.exec_root / "shims") == []


def test_restart_policy(run: Run, engine: RunningEngine) -> None:
    run("-d", "--name", "again", "--restart", "on-failure:2", "busybox", "false")
    until(lambda: inspect(engine, "again", "{{.RestartCount}} {{.State.Status}}") == "2 exited")


def test_nothing_is_left(run: Run, engine: RunningEngine) -> None:
    container = run("-d", "busybox", "sleep", "1000").stdout.strip()
    engine.docker("rm", "-f", container)
    assert not (engine.exec_root / "shims" / container).exists()
    assert container not in Path("/proc/self/mountinfo").read_text()
    for pattern in (f"docker/{container}", f"*/docker/{container}"):
        assert not list(Path("/sys/fs/cgroup").glob(pattern))
    assert run("--rm", "busybox", "nosuch").returncode == 127
    assert os.listdir(engine.exec_root / "shims") == []


# --- choosing one


def test_information_names_them(engine: RunningEngine) -> None:
    runtimes = json.loads(engine.docker("info", "--format", "{{json .Runtimes}}").stdout)
    assert runtimes[CRUN]["path"] == "/usr/bin/crun"
    assert (runtimes[RUNC]["path"], runtimes[RUNC]["runtimeArgs"]) == ("/usr/sbin/runc", ["--debug"])
    assert engine.docker("info", "--format", "{{.DefaultRuntime}}").stdout == "runc\n"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("nosuch", 125, "unknown or invalid runtime name: nosuch"),
        ("missing", 127, "fork/exec /usr/sbin/no-such-runtime: no such file or directory: unknown"),
        ("failing", 127, "/bin/sh did not terminate successfully: exit status 3: unknown"),
    ],
)
def test_runtimes_that_do_not_work(engine: RunningEngine, name: str, code: int, message: str) -> None:
    """Also 127 for `failing`: the client reads "no such file" of the runtime's missing log, as with Docker."""
    done = engine.docker("run", "--rm", "--runtime", name, "busybox", "true", check=False)
    assert done.returncode == code and message in done.stderr


def test_a_default_and_a_runtime_that_went(make_engine: Callable[..., RunningEngine]) -> None:
    own = make_engine("--add-runtime", f"{CRUN}=/usr/bin/crun", "--default-runtime", CRUN)
    own.docker("create", "--name", "made", "busybox", "sh", "-c", "echo hi")
    assert inspect(own, "made", "{{.HostConfig.Runtime}}") == CRUN
    assert own.docker("start", "-a", "made").stdout == "hi\n"
    own.stop()
    own._flags.clear()
    own.start()
    refused = own.docker("start", "made", check=False)
    assert refused.returncode == 1 and f"unknown or invalid runtime name: {CRUN}" in refused.stderr
