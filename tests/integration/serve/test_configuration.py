"""`sampan serve` as dockerd: flags and daemon.json have their effect, mistakes are refused in its words, SIGHUP reloads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

MakeEngine = Callable[..., RunningEngine]


def serve(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A start that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "sampan.serve", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_what_is_wrong_is_refused_and_what_is_right_is_said(tmp_path: Path) -> None:
    for arguments, words in (
        (["--nonsense"], "unknown flag: --nonsense\nSee 'sampan serve --help'.\n"),
        (["--mtu", "many"], 'invalid argument "many" for "--mtu" flag: strconv.ParseInt: parsing "many"'),
        (["positional"], '"sampan serve" accepts no argument(s).'),
        (
            ["--config-file", tmp_path / "none"],
            f"unable to configure the Docker daemon with file {tmp_path}/none: ",
        ),
    ):
        done = serve(*arguments)
        assert (done.returncode, done.stdout) == (1, "") and words in done.stderr, done
    file = tmp_path / "daemon.json"
    file.write_text('{"debug": true, "labels": ["a=b"]}')
    done = serve("--config-file", file, "--debug", "--label", "x=y")
    assert done.returncode == 1 and done.stderr == (
        f"unable to configure the Docker daemon with file {file}: the following directives are specified both as a flag and in "
        "the configuration file: debug: (from flag: true, from file: true), labels: (from flag: [x=y], from file: [a=b])\n"
    )
    done = serve("--config-file", file, "--validate", "--metrics-addr=127.0.0.1:9")
    assert (done.returncode, done.stderr) == (
        0,
        "warning: metrics-addr is accepted and has no effect: metrics are not there yet\nconfiguration OK\n",
    )


def test_the_configuration_has_its_effect_and_is_reloaded(make_engine: MakeEngine, tmp_path: Path) -> None:
    file, profile = tmp_path / "daemon.json", tmp_path / "seccomp.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    configured = {
        "labels": ["kind=test"],
        "default-shm-size": "32m",
        "default-stop-timeout": 1,
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 123, "Hard": 456}},
        "dns": ["192.0.2.7"],
        "log-opts": {"max-size": "1m"},
        "no-new-privileges": True,
        "seccomp-profile": str(profile),
        "cgroup-parent": "/serve-test",
        "mtu": 1400,
        "registry-mirrors": ["https://mirror.invalid"],
        "proxies": {"http-proxy": "http://proxy.invalid:1"},
    }
    file.write_text(json.dumps(configured))
    engine = make_engine(
        "--config-file", str(file), "--init", "--experimental", "--default-ipc-mode=shareable"
    )
    info = json.loads(engine.docker("info", "--format", "{{json .}}").stdout)
    assert info["Labels"] == ["kind=test"] and info["HttpProxy"] == "http://proxy.invalid:1"
    assert info["RegistryConfig"]["Mirrors"] == ["https://mirror.invalid/"] and info["ExperimentalBuild"]
    script = (
        "ulimit -Sn; ulimit -Hn; df -k /dev/shm | tail -1; cat /etc/resolv.conf; grep NoNewPrivs /proc/self/status;"
        "cat /sys/class/net/eth0/mtu; cat /proc/1/comm; grep -h serve-test /proc/self/cgroup | head -1;"
        "mkdir /new 2>&1; true"
    )
    assert "name=no-new-privileges" in info["SecurityOptions"]
    assert f"name=seccomp,profile={profile}" in info["SecurityOptions"]
    shown = engine.docker("run", "--rm", "--cgroupns=host", "busybox", "sh", "-c", script).stdout
    for expected in (
        "123\n456\n",
        " 32768 ",
        "nameserver 192.0.2.7",
        "NoNewPrivs:\t1",
        "1400",
        "docker-init",
        ":/serve-test/",
        "'/new': Operation not permitted",
    ):
        assert expected in shown, (expected, shown)

    engine.docker("run", "-d", "--name=lasting", "busybox", "sleep", "100")
    status = engine.docker("exec", "lasting", "grep", "NoNewPrivs", "/proc/self/status").stdout
    assert status == "NoNewPrivs:\t1\n"

    made = engine.docker("create", "busybox").stdout.strip()
    details = json.loads(engine.docker("inspect", made).stdout)[0]["HostConfig"]
    assert details["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}
    assert details["IpcMode"] == "shareable" and details["ShmSize"] == 32 << 20

    file.write_text(
        json.dumps({**configured, "labels": ["kind=other"], "debug": True, "default-shm-size": "8m"})
    )
    since = engine.docker("info", "--format", "{{.SystemTime}}").stdout.strip()
    os.kill(engine.pid, signal.SIGHUP)
    with engine.client() as client:
        event = next(client.events(since=since, filters={"type": ["daemon"]}))
    attributes = event["Actor"]["Attributes"]
    assert (event["Action"], attributes["labels"], attributes["debug"]) == (
        "reload",
        '["kind=other"]',
        "true",
    )
    assert attributes["default-shm-size"] == str(8 << 20) and attributes["runtimes"].startswith("runc:")
    info = json.loads(engine.docker("info", "--format", "{{json .}}").stdout)
    assert info["Labels"] == ["kind=other"] and info["Debug"]
    fresh = engine.docker("create", "busybox").stdout.strip()
    assert json.loads(engine.docker("inspect", fresh).stdout)[0]["HostConfig"]["ShmSize"] == 8 << 20

    file.write_text('{"labels": ["bare"]}')  # refused: everything stays
    os.kill(engine.pid, signal.SIGHUP)
    assert engine.docker("info", "--format", "{{.Labels}}").stdout.strip() == "[kind=other]"
    assert (
        "merged configuration validation from file and command line flags failed: bad attribute format: bare"
        in engine.log
    )


def test_the_default_stop_timeout(make_engine: MakeEngine) -> None:
    engine = make_engine("--default-stop-timeout=0")
    engine.docker(
        "run", "-d", "--name=deaf", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"
    )
    engine.docker("stop", "deaf", timeout=8)  # ten seconds otherwise
    assert engine.docker("inspect", "--format", "{{.State.ExitCode}}", "deaf").stdout == "137\n"


def test_a_data_root_has_one_engine(make_engine: MakeEngine, tmp_path: Path) -> None:
    engine = make_engine(image=False)
    done = serve(
        "--data-root",
        engine.data_root,
        "--exec-root",
        tmp_path / "run",
        "-H",
        f"unix://{tmp_path}/other.sock",
    )
    assert done.returncode == 1 and f"another engine uses {engine.data_root}" in done.stderr
    done = serve(
        *("--data-root", tmp_path / "other", "--exec-root", engine.exec_root),
        *("-H", f"unix://{tmp_path}/other.sock", "--bridge", "none"),
    )
    assert done.returncode == 1 and "give this one a --exec-root of its own" in done.stderr
    done = serve(
        *("--data-root", tmp_path / "other", "--exec-root", tmp_path / "run", "-H", engine.host),
        *("--bridge", "none"),
    )
    assert done.returncode == 1 and "another engine answers there" in done.stderr
    assert engine.docker("version", "--format", "{{.Server.Version}}").stdout


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restart_policies_at_the_next_start(make_engine: MakeEngine, end: str) -> None:
    engine = make_engine()
    script = "trap exit TERM; sleep 100 & wait"
    for policy in ("always", "unless-stopped", "no"):
        for state in ("running", "stopped", "created"):
            engine.docker(
                *("create", f"--name={policy}-{state}", f"--restart={policy}", "--net=none", "busybox"),
                *("sh", "-c", script),
            )
            if state != "created":
                engine.docker("start", f"{policy}-{state}")
            if state == "stopped":
                engine.docker("stop", "-t0", f"{policy}-{state}")
    before = engine.docker("inspect", "--format={{.State.StartedAt}}", "always-running").stdout
    getattr(engine, end)()
    engine.start()
    wanted = {"always-running", "always-stopped", "unless-stopped-running"}
    if end == "kill":
        wanted |= {"no-running"}  # it was never gone
    with engine.client() as client:
        for name in wanted:
            client.containers.get(name)
            deadline = time.monotonic() + 20
            while client.containers.get(name).status != "running":
                assert time.monotonic() < deadline, name
                time.sleep(0.05)
    assert set(engine.docker("ps", "--format={{.Names}}").stdout.split()) == wanted
    after = engine.docker("inspect", "--format={{.State.StartedAt}}", "always-running").stdout
    assert (after == before) == (end == "kill")
