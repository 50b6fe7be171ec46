"""The processes beside the engine, killed: verbs go on, or fail once and work the next time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from busybox_image import busybox_archive
from engine_audit import assert_settled, processes
from running_engine import RunningEngine
from sampan.errors import SystemFailure

pytestmark = pytest.mark.root


def _named(engine: RunningEngine, name: str) -> list[int]:
    return [pid for pid, each in processes(engine).items() if each.name == name]


def _kill(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_verbs_do_not_notice_the_death_of_the_fork_server(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    engine.docker(
        "run",
        "-d",
        "--name",
        "keeper",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 9' TERM; while :; do sleep 0.1; done",
    )
    for verb in (
        ("run", "--rm", "busybox", "true"),
        ("exec", "keeper", "true"),
        ("cp", "keeper:/etc/passwd", "-"),
        ("commit", "keeper", "made"),
    ):
        _kill(_named(engine, "sampan-zygote"))
        engine.docker(*verb)
    _kill(_named(engine, "sampan-zygote"))
    engine.docker("stop", "keeper")
    assert engine.docker("wait", "keeper").stdout == "9\n"
    engine.docker("rm", "keeper")
    assert_settled(engine)


def test_a_killed_worker_fails_its_job_and_no_other(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    archive = busybox_archive("large:1", {"etc/large": os.urandom(1 << 26)})
    hunter = threading.Thread(target=_kill_first_worker, args=(engine,))
    hunter.start()
    with engine.client() as client:
        with pytest.raises(SystemFailure, match="died before it answered"):
            client.images.load(archive)
        hunter.join()
        assert not client.images.exists("large:1")
        assert_settled(engine)
        client.images.load(archive)
        assert client.images.exists("large:1")


def _kill_first_worker(engine: RunningEngine) -> None:
    deadline = time.monotonic() + 30
    while not (workers := _named(engine, "sampan-worker")) and time.monotonic() < deadline:
        time.sleep(0.005)
    _kill(workers)


def test_what_waits_for_a_container_may_be_killed(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    for name in ("sampan-shim", "sampan-stub", "sampan-maker"):
        for _ in range(2):
            _kill(_named(engine, name))
            engine.docker("run", "--rm", "busybox", "true")
    assert_settled(engine)


def test_a_container_ends_with_its_shim(make_engine: Callable[..., RunningEngine]) -> None:
    engine = make_engine()
    engine.docker("run", "-d", "--name", "mortal", "busybox", "sleep", "1000")
    engine.docker("run", "-d", "--name", "reborn", "--restart", "always", "busybox", "sleep", "1000")
    first = engine.docker("inspect", "-f", "{{.State.Pid}}", "reborn").stdout
    _kill(_named(engine, "sampan-shim"))
    assert engine.docker("wait", "mortal").stdout == "137\n"
    deadline = time.monotonic() + 20
    while (second := engine.docker("inspect", "-f", "{{.State.Pid}}", "reborn").stdout) in (first, "0\n"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(int(second), 0)
    assert_settled(engine)
