"""`--systemd-cgroup`: a container is a scope of systemd's, with the limits that it was given, until it is deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oci_bundle import RUNC, SAMPAN, Bundle, cgroup_of

Systemctl = Callable[..., str]

LIMITS = ("MemoryMax", "CPUQuotaPerSecUSec", "TasksMax", "AllowedCPUs", "Slice", "Delegate")


@pytest.fixture
def scoped(tmp_path: Path, systemctl: Systemctl) -> Iterator[Bundle]:
    made = Bundle(tmp_path)
    made.spec["linux"]["cgroupsPath"] = "sampan-test.slice:box:one"
    made.spec["linux"]["resources"] |= {
        "memory": {"limit": 64 << 20},
        "cpu": {"shares": 1024, "quota": 50_000, "period": 100_000, "cpus": "0"},
        "pids": {"limit": 50},
    }
    made.script("sleep 1000").write()
    yield made
    for runtime in (RUNC, SAMPAN):
        made.command("--systemd-cgroup", "delete", "--force", "one", runtime=runtime)
    systemctl("stop", "sampan-test.slice", "sampan.slice")


def run(bundle: Bundle, runtime: list[str] = SAMPAN) -> int:
    done = bundle.command(
        "--systemd-cgroup", "run", "-d", "--bundle", str(bundle.path), "one", runtime=runtime, stdout=-3
    )
    assert done.code == 0, done.err
    return bundle.pid("one") if runtime is SAMPAN else 0


def shown(systemctl: Systemctl) -> dict[str, str]:
    text = systemctl("show", "box-one.scope", *(f"-p{name}" for name in LIMITS))
    return dict(line.split("=", 1) for line in text.splitlines())


def until_gone(systemctl: Systemctl) -> None:
    deadline = time.monotonic() + 30
    while systemctl("show", "-pLoadState", "--value", "box-one.scope") != "not-found":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_scope_is_as_runcs(scoped: Bundle, systemctl: Systemctl) -> None:
    run(scoped, RUNC)
    theirs = shown(systemctl)
    scoped.command("--systemd-cgroup", "delete", "--force", "one", runtime=RUNC)
    until_gone(systemctl)
    run(scoped)
    assert shown(systemctl) == theirs
    assert (theirs["MemoryMax"], theirs["TasksMax"]) == (str(64 << 20), "50")


def test_a_scopes_life(scoped: Bundle, systemctl: Systemctl) -> None:
    pid = run(scoped)
    path = cgroup_of(pid).strip().removeprefix("0::")
    assert path == "/sampan.slice/sampan-test.slice/box-one.scope"
    directory = Path("/sys/fs/cgroup" + path)
    assert systemctl("is-active", "box-one.scope") == "active"
    assert scoped.command("exec", "one", "cat", "/proc/self/cgroup").out == f"0::{path}\n"
    assert scoped.command("update", "--memory", "80m", "--pids-limit", "60", "one").code == 0
    systemctl("daemon-reload")  # which writes what systemd knows
    assert (directory / "memory.max").read_text() == f"{80 << 20}\n"
    assert (directory / "pids.max").read_text() == "60\n"
    assert (directory / "cpu.max").read_text() == "50000 100000\n"
    assert (directory / "cpuset.cpus").read_text() == "0\n"
    assert scoped.command("pause", "one").code == 0 and scoped.command("resume", "one").code == 0
    assert scoped.command("kill", "--all", "one", "KILL").code == 0
    assert scoped.command("delete", "--force", "one").code == 0
    until_gone(systemctl)
    assert not directory.exists()


def test_without_a_bus(scoped: Bundle, systemctl: Systemctl) -> None:
    """systemd's private socket is enough."""
    systemctl("stop", "dbus.socket")
    systemctl("kill", "--signal=KILL", "dbus.service")  # `stop` leaves the daemon alone: KillMode=none
    systemctl("stop", "dbus.service")
    try:
        assert systemctl("is-active", "dbus.socket", "dbus.service").split() == ["inactive", "inactive"]
        run(scoped)
        assert scoped.command("delete", "--force", "one").code == 0
        assert not Path("/sys/fs/cgroup/sampan.slice/sampan-test.slice/box-one.scope").exists()
    finally:
        systemctl("start", "dbus.socket")


def test_a_failed_start_leaves_no_scope(scoped: Bundle, systemctl: Systemctl) -> None:
    scoped.spec["process"]["args"] = ["/nope"]
    scoped.write()
    done = scoped.command("--systemd-cgroup", "run", "--bundle", str(scoped.path), "one")
    assert done.code == 1 and "/nope" in done.err
    until_gone(systemctl)
    scoped.script("true").write()
    done = scoped.command("--systemd-cgroup", "run", "--bundle", str(scoped.path), "one")
    assert (done.code, done.err) == (0, "")
    until_gone(systemctl)


def test_a_name_that_is_taken(scoped: Bundle, systemctl: Systemctl) -> None:
    systemctl("set-property", "--runtime", "sampan-test.slice", "TasksMax=500")
    run(scoped)
    other = scoped.command(
        "--root", str(scoped.path / "other"), "--systemd-cgroup", "create", "--bundle", str(scoped.path), "two", stdout=-3
    )  # fmt: skip
    assert other.code == 1 and "container's cgroup is not empty" in other.err
    assert systemctl("is-active", "box-one.scope") == "active"
