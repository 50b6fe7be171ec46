"""AppArmor, in a machine that has it: Docker's default profile, others by name, and none."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from running_engine import RunningEngine

RUN = ("run", "--rm", "--network", "none")
CURRENT = "/proc/self/attr/apparmor/current"


@pytest.fixture
def loaded_profile() -> Iterator[str]:
    """A profile of the user's own, in the kernel: everything is allowed but writing to /tmp/forbidden."""
    name = "sampan-test-profile"
    text = f"profile {name} flags=(attach_disconnected) {{ file, capability, network, signal, deny /tmp/forbidden w, }}"
    subprocess.run(["apparmor_parser", "-Kr"], input=text, text=True, check=True)
    yield name
    subprocess.run(["apparmor_parser", "-KR"], input=text, text=True, check=True)


def shown_profile(engine: RunningEngine, name: str) -> str:
    return str(json.loads(engine.docker("inspect", name).stdout)[0]["AppArmorProfile"])


def test_the_default_profile_confines_whatever_runs(engine: RunningEngine) -> None:
    assert "name=apparmor" in engine.docker("info", "-f", "{{.SecurityOptions}}").stdout
    assert engine.docker(*RUN, "busybox", "cat", CURRENT).stdout == "docker-default (enforce)\n"
    engine.docker("run", "-d", "--network", "none", "--init", "--name", "box", "busybox", "sleep", "1000")
    assert shown_profile(engine, "box") == "docker-default"
    for arguments in (("exec", "box"), ("exec", "--privileged", "box"), ("exec", "-u", "nobody", "box")):
        assert engine.docker(*arguments, "cat", CURRENT).stdout == "docker-default (enforce)\n"
    init = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "box").stdout)
    assert Path(f"/proc/{init}/attr/apparmor/current").read_text() == "docker-default (enforce)\n", (
        "our own init too"
    )
    engine.docker("stop", "-t", "20", "box")  # signals from outside arrive
    assert engine.docker("inspect", "-f", "{{.State.ExitCode}}", "box").stdout == "143\n"


def test_what_the_default_profile_denies(engine: RunningEngine) -> None:
    """With all capabilities and without seccomp, masks and read-only paths: only the profile is left."""
    free = (
        "--cap-add",
        "ALL",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "systempaths=unconfined",
    )
    attempts = {
        "mount": "mount -t tmpfs none /mnt",
        "sysrq": "echo h > /proc/sysrq-trigger",
        "kcore": "head -c 1 /proc/kcore",
        "core-pattern": "echo x > /proc/sys/kernel/core_pattern",
        "vm": "echo 60 > /proc/sys/vm/swappiness",
        "irq": "echo 3 > /proc/irq/default_smp_affinity",
        "uevent": "echo /evil > /sys/kernel/uevent_helper",
        "security": "ls /sys/kernel/security/apparmor",
        "trace-init": "readlink /proc/1/exe",
    }
    script = "mkdir /mnt; mount -o remount,rw /sys 2>/dev/null;" + "".join(
        f" ({command}) > /dev/null 2>&1 && echo {name};" for name, command in attempts.items()
    )
    confined = engine.docker(*RUN, *free, "busybox", "sh", "-c", script, check=False).stdout.split()
    assert set(confined) <= {"trace-init"}, "process 1 is confined by the same profile"
    unconfined = ("--security-opt", "apparmor=unconfined")
    without = engine.docker(
        *RUN, *free, *unconfined, "busybox", "sh", "-c", script, check=False
    ).stdout.split()
    assert {"mount", "vm", "kcore"} <= set(without), "it is the profile that denied them"


def test_ordinary_work_is_allowed(engine: RunningEngine) -> None:
    script = (
        "set -e; cd /tmp; echo x > a; ln a b; mkfifo f; chmod 700 a; kill -0 1; (sleep 100 & kill $!); ps > /dev/null;"
        " echo 1 > /proc/self/oom_score_adj; cat /proc/meminfo /proc/sys/kernel/hostname > /dev/null;"
        " httpd -p 8080; wget -q -O /dev/null http://127.0.0.1:8080/a; mkdir d; chroot / true; echo done"
    )
    assert engine.docker("run", "--rm", "busybox", "sh", "-c", script).stdout == "done\n"


def test_a_profile_by_name(engine: RunningEngine, loaded_profile: str) -> None:
    option = ("--security-opt", f"apparmor={loaded_profile}")
    script = f"cat {CURRENT}; echo x > /tmp/allowed && echo yes; echo x > /tmp/forbidden || echo no"
    done = engine.docker(*RUN, *option, "busybox", "sh", "-c", script)
    assert done.stdout == f"{loaded_profile} (enforce)\nyes\nno\n"
    engine.docker("create", *option, "--name", "named", "busybox")
    assert shown_profile(engine, "named") == loaded_profile


def test_none(engine: RunningEngine) -> None:
    for options in (("--security-opt", "apparmor=unconfined"), ("--privileged",)):
        assert engine.docker(*RUN, *options, "busybox", "cat", CURRENT).stdout == "unconfined\n"
    engine.docker("create", "--privileged", "--name", "free", "busybox")
    assert shown_profile(engine, "free") == "unconfined"


def test_a_profile_that_is_not_loaded(engine: RunningEngine) -> None:
    done = engine.docker(*RUN, "--security-opt", "apparmor=nosuch", "busybox", "true", check=False)
    assert done.returncode in (125, 127)
    assert "unable to apply apparmor profile" in done.stderr and "no such file or directory" in done.stderr


def test_the_default_profile_comes_back(engine: RunningEngine) -> None:
    """Somebody unloads it: the next start loads it."""
    engine.docker(*RUN, "busybox", "true")
    with open("/sys/kernel/security/apparmor/.remove", "w") as file:
        file.write("docker-default")
    assert "docker-default" not in Path("/sys/kernel/security/apparmor/profiles").read_text()
    assert engine.docker(*RUN, "busybox", "cat", CURRENT).stdout == "docker-default (enforce)\n"


def test_without_a_parser_nothing_is_confined(make_engine: Callable[..., RunningEngine]) -> None:
    """As with dockerd: no apparmor_parser, no AppArmor; and `system check` says so."""
    parser = Path("/usr/sbin/apparmor_parser")
    parser.rename(parser.with_suffix(".away"))
    try:
        engine = make_engine()
        assert "apparmor" not in engine.docker("info", "-f", "{{.SecurityOptions}}").stdout
        assert engine.docker(*RUN, "busybox", "cat", CURRENT).stdout == "unconfined\n"
        done = engine.sampan("system", "check", check=False)
        assert "limited" in next(line for line in done.stdout.splitlines() if "apparmor" in line)
    finally:
        parser.with_suffix(".away").rename(parser)
    assert "ok       apparmor" in engine.sampan("system", "check", check=False).stdout
