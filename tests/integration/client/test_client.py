"""The Python client against a running engine."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

import sampan
from running_engine import RunningEngine
from sampan.errors import Conflict, NotFound

pytestmark = pytest.mark.root


def test_run_returns_output_and_exit_code(engine: RunningEngine) -> None:
    with engine.client() as client:
        result = client.run("busybox", ["sh", "-c", "echo out; echo err >&2; exit 3"], network="none")
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 3)
    with pytest.raises(sampan.ExitError, match="exit code 3: err"):
        result.check()


def test_input_of_any_size_comes_back(engine: RunningEngine) -> None:
    data = bytes(range(256)) * 20_000
    with engine.client() as client:
        assert client.run("busybox", ["cat"], input=data, network="none").stdout == data


def test_a_detached_container(engine: RunningEngine) -> None:
    with engine.client() as client:
        container = client.run("busybox", ["sleep", "100"], detach=True, name="c1", network="none")
        assert client.containers.get("c1").id == container.id
        assert container.exec(["cat"], input=b"hi").output == "hi"
        assert container.exec(["false"]).exit_code == 1
        with pytest.raises(Conflict):
            container.remove()
        container.stop(timeout=0)
        container.stop(timeout=0)  # nothing to do is no error
        assert container.status == "exited"
        container.remove()
        with pytest.raises(NotFound):
            container.inspect()


def test_files_go_in_and_come_out(engine: RunningEngine, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x" * 300_000)
    with engine.client() as client:
        container = client.run("busybox", ["sleep", "100"], detach=True, network="none")
        container.write_file("/tmp/a", b"abc")
        assert container.read_file("/tmp/a") == b"abc"
        container.copy_in(tmp_path / "tree", "/tmp")
        container.copy_out("/tmp/tree/file", tmp_path)
    assert (tmp_path / "file").read_bytes() == b"x" * 300_000


def test_logs_follow_until_the_end(engine: RunningEngine) -> None:
    with engine.client() as client:
        container = client.run(
            "busybox", ["sh", "-c", "echo a; sleep 0.2; echo b"], detach=True, network="none"
        )
        assert b"".join(container.follow()) == b"a\nb\n"
        assert container.wait() == 0
        assert container.logs(tail=1) == b"b\n"


def test_an_engine_is_started_once_for_many(tmp_path: Path) -> None:
    """Ten clients at once, no engine: one is started, all are served, and SIGTERM ends it."""
    host = f"unix://{tmp_path}/e.sock"
    bridge = RunningEngine(tmp_path)
    command = sampan.EngineCommand(
        (
            *(f"--data-root={tmp_path}/data", f"--exec-root={tmp_path}/run", f"--pidfile={tmp_path}/pid"),
            *(f"--bridge={bridge.bridge}", f"--bip={bridge.bip}"),
        )
    )
    answers: list[bool] = []

    def ask() -> None:
        with sampan.connect(host, command=command) as client:
            answers.append(client.ping())

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    pid = int((tmp_path / "pid").read_text())
    try:
        assert answers == [True] * 10
        assert (tmp_path / "engine.log").read_text().count("API listen on") == 1
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
