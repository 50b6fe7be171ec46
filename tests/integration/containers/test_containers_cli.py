"""Containers through the unmodified docker CLI."""

from __future__ import annotations

import concurrent.futures
import io
import json
import re
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import NoneType

import pytest

from running_engine import RunningEngine
from sampan.client.api import Api
from sampan.client.endpoint import parse
from sampan.errors import Conflict, NotFound

pytestmark = pytest.mark.root

RUN = ("run", "--rm", "--network", "none")


def state_of(engine: RunningEngine, name: str) -> dict[str, object]:
    state: dict[str, object] = json.loads(engine.docker("inspect", name).stdout)[0]["State"]
    return state


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something that happens in another process; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_output_input_and_exit_codes(engine: RunningEngine) -> None:
    assert engine.docker(*RUN, "busybox", "echo", "hi").stdout == "hi\n"
    assert engine.docker(*RUN, "-i", "busybox", "cat", input="from here").stdout == "from here"
    assert engine.docker(*RUN, "busybox", "sh", "-c", "exit 7", check=False).returncode == 7
    missing = engine.docker(*RUN, "busybox", "nosuch", check=False)
    assert missing.returncode == 127 and "executable file not found in $PATH: unknown" in missing.stderr
    assert engine.docker(*RUN, "busybox", "/etc/passwd", check=False).returncode == 126
    assert engine.docker("ps", "-aq").stdout == ""


def test_large_output_is_whole(engine: RunningEngine) -> None:
    done = engine.docker(*RUN, "busybox", "sh", "-c", "yes 0123456789 | head -c 3000000")
    assert len(done.stdout) == 3_000_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--name", "x", "busybox", "true"), "Invalid container name (x)"),
        (("--memory", "5m", "busybox", "true"), "Minimum memory limit allowed is 6MB"),
        (("--mount", "type=bind,src=/nonexistent,dst=/x", "busybox", "true"), "bind source path does not exist: /nonexistent"),
        (("-v", "/a:/", "busybox", "true"), "destination can't be '/'"),
        (("--user", "odd", "busybox", "true"), "unable to find user odd: no matching entries in passwd file"),
        (("--network", "host", "--sysctl", "net.ipv4.ip_forward=1", "busybox", "true"), "not allowed in host network namespace"),
        (("--runtime", "odd", "busybox", "true"), "unknown or invalid runtime name: odd"),
        (("--log-driver", "odd", "busybox", "true"), 'error looking up logging plugin odd: plugin "odd" not found'),
    ],
)  # fmt: skip
def test_mistakes(engine: RunningEngine, arguments: tuple[str, ...], message: str) -> None:
    done = engine.docker("run", *arguments, check=False)
    assert done.returncode == 125 and message in done.stderr
    until(lambda: "x" not in engine.docker("ps", "-a", "--format", "{{.Names}}").stdout.split())


def test_a_taken_name(engine: RunningEngine) -> None:
    first = engine.docker("create", "--name", "taken", "busybox", "true").stdout.strip()
    done = engine.docker("create", "--name", "taken", "busybox", "true", check=False)
    assert f'The container name "/taken" is already in use by container "{first}"' in done.stderr


def test_process_of_an_exec_is_made_ready_when_it_is_created(engine: RunningEngine) -> None:
    engine.docker("run", "-d", "--network", "none", "--name", "ready", "busybox", "sleep", "1000")
    api = Api(parse(engine.host), version=(1, 41))
    api.call("POST", "/containers/ready/exec", body={"Cmd": ["true"]})
    until(lambda: len(engine.docker("top", "ready").stdout.splitlines()) == 3)
    engine.docker("pause", "ready")
    assert len(engine.docker("top", "ready").stdout.splitlines()) == 2
    engine.docker("unpause", "ready")
    engine.docker("rm", "-f", "ready")


def test_life(engine: RunningEngine) -> None:
    engine.docker("run", "-d", "--network", "none", "--name", "life", "busybox", "sleep", "1000")
    assert engine.docker("exec", "life", "echo", "inside").stdout == "inside\n"
    assert engine.docker("exec", "life", "sh", "-c", "exit 3", check=False).returncode == 3
    assert engine.docker("exec", "life", "nosuch", check=False).returncode == 127
    engine.docker("pause", "life")
    assert state_of(engine, "life")["Status"] == "paused"
    refused = engine.docker("exec", "life", "true", check=False)
    assert "is paused, unpause the container before exec" in refused.stderr
    engine.docker("unpause", "life")
    assert "sleep 1000" in engine.docker("top", "life").stdout
    assert (
        "stop the container before removing or force remove"
        in engine.docker("rm", "life", check=False).stderr
    )
    engine.docker("stop", "-t", "0", "life")
    assert state_of(engine, "life")["ExitCode"] == 137
    engine.docker("start", "life")
    engine.docker("restart", "-t", "0", "life")
    engine.docker("rename", "life", "renamed")
    engine.docker("update", "--memory", "64m", "--memory-swap", "64m", "renamed")
    engine.docker("kill", "renamed")
    assert engine.docker("wait", "renamed").stdout == "137\n"
    assert re.match(r"Exited \(137\) ", engine.docker("ps", "-a", "--format", "{{.Status}}").stdout)


def test_logs(engine: RunningEngine) -> None:
    engine.docker(
        "run", "--network", "none", "--name", "log", "busybox", "sh", "-c", "echo a; echo b >&2; echo c"
    )
    done = engine.docker("logs", "log")
    assert (done.stdout, done.stderr) == ("a\nc\n", "b\n")
    assert engine.docker("logs", "--tail", "0", "log").stdout == ""
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z a\n", engine.docker("logs", "-t", "log").stdout)


def test_a_removal_during_a_start_leaves_no_program(engine: RunningEngine) -> None:
    """Start and forced removal at once: whichever comes first, nothing runs on that nobody knows of."""
    program = "4242424"  # seconds that nobody else sleeps
    with engine.client() as client, concurrent.futures.ThreadPoolExecutor(16) as pool:
        boxes = [client.containers.create("busybox", ["sleep", program], network="none") for _ in range(8)]
        verbs = [verb for box in boxes for verb in (box.start, partial(box.remove, force=True))]
        for done in concurrent.futures.as_completed([pool.submit(verb) for verb in verbs]):
            assert isinstance(done.exception(), Conflict | NotFound | NoneType), done.exception()
        running = [box for box in boxes if box.id in engine.docker("ps", "-aq", "--no-trunc").stdout]
    assert not running
    words = b"sleep\0" + program.encode() + b"\0"
    assert not [line for line in Path("/proc").glob("[0-9]*/cmdline") if line.read_bytes() == words]


def test_stop_waits_for_a_start_that_is_under_way(engine: RunningEngine) -> None:
    with engine.client() as client, concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(4):
            box = client.containers.create("busybox", ["sleep", "100"], network="none")
            starting = pool.submit(box.start)
            while not (engine.exec_root / "shims" / box.id).exists() and not starting.done():
                pass
            box.stop(timeout=0)
            starting.result()
            assert box.inspect()["State"]["Status"] == "exited"
            box.remove()


def test_restart_policy_gives_up_after_its_count(engine: RunningEngine) -> None:
    engine.docker(
        "run", "-d", "--network", "none", "--name", "again", "--restart", "on-failure:2", "busybox", "false"
    )
    until(lambda: state_of(engine, "again")["Status"] == "exited")
    assert engine.docker("inspect", "-f", "{{.RestartCount}}", "again").stdout == "2\n"


def test_health(engine: RunningEngine) -> None:
    engine.docker(
        "run", "-d", "--network", "none", "--name", "well", "--health-cmd", "test -f /ok",
        "--health-interval", "100ms", "--health-retries", "1", "busybox", "sleep", "1000",
    )  # fmt: skip

    def health() -> str:
        return engine.docker("inspect", "-f", "{{.State.Health.Status}}", "well").stdout.strip()

    until(lambda: health() == "unhealthy")
    engine.docker("exec", "well", "touch", "/ok")
    until(lambda: health() == "healthy")
    engine.docker("rm", "-f", "well")


def test_copy_diff_export_and_commit(engine: RunningEngine) -> None:
    engine.docker("run", "--network", "none", "--name", "files", "busybox", "sh", "-c", "echo x > /new")
    assert engine.docker("diff", "files").stdout == "A /new\n"
    engine.docker("start", "files")
    archive = engine.docker("cp", "files:/new", "-").stdout.encode()
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        assert members.getnames() == ["new"]
    # back by name, though what is gone back from is a file
    assert engine.docker("cp", "files:/new/../new", "-").stdout.encode() == archive
    image = engine.docker("commit", "files", "committed").stdout.strip()
    assert image.startswith("sha256:")
    assert engine.docker(*RUN, "committed", "cat", "/new").stdout == "x\n"
    engine.docker("rm", "files")
    engine.docker("rmi", "committed")


def test_a_stopped_container_shows_its_own_files(engine: RunningEngine) -> None:
    """hosts and hostname lie beside its root and are mounted; a copy finds them also when nothing is."""
    engine.docker("run", "--network", "none", "--name", "rested", "-h", "well", "busybox", "true")
    for path, wanted in (("/etc/hostname", "well\n"), ("/etc/hosts", "localhost")):
        archive = engine.docker("cp", f"rested:{path}", "-").stdout.encode()
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            member = members.extractfile(members.next() or "")
            assert member is not None and wanted in member.read().decode()
    engine.docker("rm", "rested")


def test_volumes_are_filled_shared_and_removed_with_their_container(engine: RunningEngine) -> None:
    names = engine.docker(*RUN, "-v", "filled:/etc", "busybox", "ls", "/etc").stdout
    assert "passwd" in names
    engine.docker("create", "--name", "donor", "-v", "/anonymous", "busybox", "true")
    engine.docker(*RUN, "--volumes-from", "donor", "busybox", "touch", "/anonymous/x")
    assert len(engine.docker("volume", "ls", "-q").stdout.split()) == 2
    engine.docker("rm", "-v", "donor")
    assert engine.docker("volume", "ls", "-q").stdout == "filled\n"


def test_namespaces_are_shared_with_another_container(engine: RunningEngine) -> None:
    engine.docker(
        "run", "-d", "--network", "none", "--name", "host", "--ipc", "shareable", "busybox", "sleep", "1000"
    )
    other = (
        "run",
        "--rm",
        "--network",
        "container:host",
        "--ipc",
        "container:host",
        "--pid",
        "container:host",
    )
    done = engine.docker(*other, "busybox", "sh", "-c", "touch /dev/shm/here; hostname; cat /proc/1/cmdline")
    assert "sleep" in done.stdout
    assert engine.docker("exec", "host", "ls", "/dev/shm").stdout == "here\n"
    engine.docker("rm", "-f", "host")


def test_a_killed_engine_loses_no_container(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    engine.docker("run", "-d", "--network", "none", "--name", "stays", "busybox", "sh", "-c",
                  "i=0; while true; do i=$((i+1)); echo $i; usleep 50000; done")  # fmt: skip
    engine.docker(
        "run", "-d", "--network", "none", "--name", "ends", "busybox", "sh", "-c", "sleep 0.3; exit 7"
    )
    engine.docker("run", "-d", "--rm", "--network", "none", "--name", "goes", "busybox", "sleep", "0.3")
    pid = state_of(engine, "stays")["Pid"]
    engine.kill()
    time.sleep(0.6)  # the two others end while no engine is there
    engine.start()
    assert state_of(engine, "stays")["Pid"] == pid
    assert state_of(engine, "ends")["ExitCode"] == 7
    assert engine.docker("ps", "-a", "--format", "{{.Names}}", "--filter", "name=goes").stdout == ""
    lines = [int(line) for line in engine.docker("logs", "stays").stdout.split()]
    assert lines == list(range(1, len(lines) + 1))
    assert engine.docker("exec", "stays", "echo", "ok").stdout == "ok\n"
    engine.docker("rm", "-f", "stays")
