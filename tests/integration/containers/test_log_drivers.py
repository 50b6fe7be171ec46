"""Containers whose output goes elsewhere, with `docker logs` still working."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

RUN = ("run", "--network", "none")


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.settimeout(20)
        yield bound


def syslog(receiver: socket.socket, *more: str) -> tuple[str, ...]:
    address = f"syslog-address=udp://127.0.0.1:{receiver.getsockname()[1]}"
    return ("--log-driver", "syslog", "--log-opt", address, *more)


def test_what_a_container_says_arrives_and_can_be_read_here(
    engine: RunningEngine, receiver: socket.socket
) -> None:
    options = syslog(receiver, "--log-opt", "tag={{.Name}}/{{.ID}}", "--log-opt", "syslog-facility=local0")
    done = engine.docker(
        *RUN, *options, "--name", "speaker", "busybox", "sh", "-c", "echo out; sleep 0.1; echo err >&2"
    )
    assert done.stdout == "out\n"
    first, second = receiver.recv(4096), receiver.recv(4096)
    assert first.startswith(b"<134>") and first.endswith(b": out\n") and b" speaker/" in first
    assert second.startswith(b"<131>") and second.endswith(b": err\n")
    assert engine.docker("logs", "speaker").stdout == "out\n"
    assert (
        engine.docker("inspect", "--format", "{{.HostConfig.LogConfig.Type}} {{.LogPath}}", "speaker").stdout
        == "syslog \n"
    )
    engine.docker("start", "-a", "speaker")
    assert [receiver.recv(4096)[-5:] for _ in range(2)] == [b" out\n", b" err\n"]
    assert engine.docker("logs", "speaker").stdout == "out\nout\n"


def test_without_a_local_copy(engine: RunningEngine, receiver: socket.socket) -> None:
    options = syslog(receiver, "--log-opt", "cache-disabled=true")
    engine.docker(*RUN, *options, "--name", "silent", "busybox", "echo", "hi")
    assert receiver.recv(4096).endswith(b": hi\n")
    refused = engine.docker("logs", "silent", check=False)
    assert refused.returncode == 1 and "configured logging driver does not support reading" in refused.stderr


def test_a_peer_that_is_not_there_refuses_the_start(engine: RunningEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for driver in ("syslog", "gelf", "fluentd"):
        options = ("--log-driver", driver, "--log-opt", f"{driver}-address=tcp://127.0.0.1:{port}")
        refused = engine.docker(*RUN, "--rm", *options, "busybox", "true", check=False)
        assert refused.returncode == 125
        assert (
            "failed to initialize logging driver" in refused.stderr and "connection refused" in refused.stderr
        )
    patient = (
        "--log-driver",
        "fluentd",
        "--log-opt",
        f"fluentd-address=127.0.0.1:{port}",
        "--log-opt",
        "fluentd-async=true",
    )
    assert engine.docker(*RUN, *patient, "busybox", "echo", "hi").stdout == "hi\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--log-driver", "awslogs"), 'error looking up logging plugin awslogs: plugin "awslogs" not found'),
        (("--log-driver", "syslog", "--log-opt", "x=y"), "unknown log opt 'x' for syslog log driver"),
        (("--log-driver", "gelf"), "gelf-address is a required parameter"),
        (("--log-opt", "cache-disabled=maybe"), "invalid value for option cache-disabled: maybe"),
    ],
)
def test_mistakes(engine: RunningEngine, options: tuple[str, ...], words: str) -> None:
    refused = engine.docker("create", *options, "busybox", check=False)
    assert refused.returncode == 1 and words in refused.stderr


def test_a_killed_engine_loses_no_line(
    make_engine: Callable[..., RunningEngine], receiver: socket.socket
) -> None:
    engine = make_engine(*syslog(receiver))
    assert json.loads(engine.docker("info", "--format", "{{json .LoggingDriver}}").stdout) == "syslog"
    script = "i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); sleep 0.05; done; sleep 1000"
    engine.docker(*RUN, "-d", "--name", "counter", "busybox", "sh", "-c", script)
    seen = [int(receiver.recv(4096).split()[-1]) for _ in range(5)]
    engine.kill()
    time.sleep(0.3)  # it writes while there is no engine
    engine.start()
    while seen[-1] != 59:
        seen.append(int(receiver.recv(4096).split()[-1]))
    # Nothing is missing; what was under way may come twice.
    assert sorted(set(seen)) == list(range(60)) and len(seen) < 75
