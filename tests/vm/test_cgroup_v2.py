"""Containers' limits on a machine with cgroup v2 alone: what the engine writes, what the kernel does, what the API says of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from running_engine import RunningEngine

RUN = ("run", "--rm", "--network", "none")
MEMORY_HOG = "x=x; while :; do x=$x$x; done"


def directory_of(engine: RunningEngine, name: str) -> Path:
    """The container's directory in the one hierarchy, by its process."""
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", name).stdout.strip()
    path = Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")
    return Path("/sys/fs/cgroup" + path)


def read(directory: Path, *files: str) -> list[str]:
    return [(directory / file).read_text().strip() for file in files]


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def disk(engine: RunningEngine) -> str:
    """major:minor of the disk that everything lies on."""
    number = os.stat(engine.data_root).st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def test_the_machine(engine: RunningEngine) -> None:
    assert not os.path.exists("/sys/fs/cgroup/memory"), "v2 alone"
    info = json.loads(engine.docker("info", "-f", "{{json .}}").stdout)
    assert (info["CgroupVersion"], info["CgroupDriver"]) == ("2", "cgroupfs")
    assert "name=cgroupns" in info["SecurityOptions"]
    limits = ("MemoryLimit", "SwapLimit", "CpuCfsQuota", "CpuCfsPeriod", "CPUShares", "CPUSet", "PidsLimit")
    assert [name for name in limits if not info[name]] == []
    check = engine.sampan("system", "check").stdout
    assert "ok       cgroups" in check and "v2" in check


def test_limits_are_where_the_kernel_reads_them(engine: RunningEngine, disk: str) -> None:
    options = (
        *(
            "--memory",
            "64m",
            "--memory-swap",
            "96m",
            "--memory-reservation",
            "32m",
            "--cpus",
            "0.5",
            "--cpu-shares",
            "512",
        ),
        *("--cpuset-cpus", "0", "--pids-limit", "50", "--blkio-weight", "300"),
        *("--device-read-bps", "/dev/vda:1mb", "--device-write-iops", "/dev/vda:100"),
    )
    engine.docker("run", "-d", "--network", "none", "--name", "box", *options, "busybox", "sleep", "1000")
    directory = directory_of(engine, "box")
    files = ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpuset.cpus", "pids.max")
    assert read(directory, *files) == ["67108864", "33554432", "33554432", "50000 100000", "0", "50"]
    # 512 of v1's 1024 by runc's curve, which newer versions of it and of crun have.
    assert read(directory, "cpu.weight") == ["59"]
    assert read(directory, "io.max") == [f"{disk} rbps=1048576 wbps=max riops=max wiops=100"]
    assert read(directory, "io.weight")[0].splitlines()[0].split() == [
        "default",
        str(1 + (300 - 10) * 9999 // 990),
    ]
    engine.docker(
        "update", "--memory", "80m", "--memory-swap", "-1", "--cpus", "1", "--pids-limit", "-1", "box"
    )
    assert read(directory, *files[:2], *files[3:4], "pids.max") == ["83886080", "max", "100000 100000", "max"]


def test_oom_is_told_everywhere(engine: RunningEngine) -> None:
    begin = time.time()
    limits = ("--memory", "16m", "--memory-swap", "16m")
    done = engine.docker(
        "run", "--network", "none", "--name", "hog", *limits, "busybox", "sh", "-c", MEMORY_HOG, check=False
    )
    assert done.returncode == 137
    state = json.loads(engine.docker("inspect", "hog").stdout)[0]["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
    during = ("--since", f"{begin:.9f}", "--until", f"{time.time():.9f}", "--filter", "container=hog")
    actions = engine.docker("events", *during, "--format", "{{.Action}}").stdout.split()
    assert "oom" in actions and actions.index("oom") < actions.index("die")


def test_only_a_child_is_killed_for_want_of_memory(engine: RunningEngine) -> None:
    script = f"sh -c '{MEMORY_HOG}'; echo code $?; exit 0"
    done = engine.docker(
        "run",
        "--network",
        "none",
        "--name",
        "survivor",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        script,
    )
    assert "code 137" in done.stdout
    assert json.loads(engine.docker("inspect", "survivor").stdout)[0]["State"]["ExitCode"] == 0


def test_pids(engine: RunningEngine) -> None:
    script = "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; echo no fork failed"
    done = engine.docker(*RUN, "--pids-limit", "8", "busybox", "sh", "-c", script, check=False)
    assert "can't fork" in done.stderr and done.stdout == ""


def test_pause_is_the_freezer(engine: RunningEngine) -> None:
    engine.docker(
        "run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-c", "while :; do :; done"
    )
    directory = directory_of(engine, "box")
    engine.docker("pause", "box")
    assert "frozen 1" in read(directory, "cgroup.events")[0]
    before = read(directory, "cpu.stat")[0].splitlines()[0]
    assert before == read(directory, "cpu.stat")[0].splitlines()[0], "nothing runs"
    assert engine.docker("exec", "box", "true", check=False).returncode == 1
    engine.docker("unpause", "box")
    until(lambda: read(directory, "cpu.stat")[0].splitlines()[0] != before)
    engine.docker("pause", "box")
    engine.docker("rm", "-f", "box")  # cgroup.kill reaches what is frozen
    assert not directory.exists()


def test_a_fork_bomb_goes_at_once(engine: RunningEngine) -> None:
    """`cgroup.kill` takes what forks faster than anybody could list."""
    script = "f() { f & f & wait; }; f"
    options = ("--pids-limit", "60", "--cpus", "0.3")
    engine.docker("run", "-d", "--network", "none", "--name", "bomb", *options, "busybox", "sh", "-c", script)
    directory = directory_of(engine, "bomb")
    until(lambda: int(read(directory, "pids.current")[0]) > 30)
    engine.docker("rm", "-f", "bomb")
    assert not directory.exists()


def test_devices_by_ebpf(engine: RunningEngine) -> None:
    script = "for f in /dev/null /dev/zero /dev/disk; do head -c 1 $f > /dev/null 2>&1 && echo $f; done"
    make = "mknod /dev/disk b 254 0; "
    assert os.stat("/dev/vda").st_rdev == os.makedev(254, 0)
    found = engine.docker(*RUN, "busybox", "sh", "-c", make + script, check=False).stdout.split()
    assert found == ["/dev/null", "/dev/zero"]
    allowed = ("--device-cgroup-rule", "b 254:0 r")
    assert (
        "/dev/disk" in engine.docker(*RUN, *allowed, "busybox", "sh", "-c", make + script, check=False).stdout
    )
    given = ("--device", "/dev/vda:/dev/disk:r")
    assert "/dev/disk" in engine.docker(*RUN, *given, "busybox", "sh", "-c", script, check=False).stdout
    write = "(echo x > /dev/disk) 2>/dev/null || echo refused"
    assert engine.docker(*RUN, *given, "busybox", "sh", "-c", write).stdout == "refused\n"
    everything = engine.docker(*RUN, "--privileged", "busybox", "sh", "-c", "head -c 1 /dev/vda | wc -c")
    assert everything.stdout == "1\n"


@pytest.mark.parametrize(
    ("mode", "path"), [((), "/"), (("--cgroupns", "private"), "/"), (("--cgroupns", "host"), "/docker/")]
)
def test_cgroup_namespaces(engine: RunningEngine, mode: tuple[str, ...], path: str) -> None:
    done = engine.docker(*RUN, *mode, "busybox", "cat", "/proc/self/cgroup").stdout
    assert done == "0::/\n" if path == "/" else done.startswith(f"0::{path}")
    script = "ls /sys/fs/cgroup/cgroup.procs && mkdir /sys/fs/cgroup/x"
    done_write = engine.docker(*RUN, *mode, "busybox", "sh", "-c", script, check=False)
    assert "Read-only file system" in done_write.stderr
    privileged = engine.docker(
        *RUN, *mode, "--privileged", "busybox", "sh", "-c", "mount | grep cgroup2"
    ).stdout
    assert "rw" in privileged


def test_statistics(engine: RunningEngine) -> None:
    engine.docker(
        "run", "-d", "--name", "box", "-m", "64m", "--pids-limit", "50", "busybox", "sh", "-c",
        "dd if=/dev/zero of=/f bs=1M count=4 conv=fsync; while :; do :; done",
    )  # fmt: skip
    with engine.client() as client:
        box = client.containers.get("box")
        until(lambda: box.stats()["blkio_stats"]["io_service_bytes_recursive"] is not None)
        stats = box.stats()
    assert stats["memory_stats"]["limit"] == 64 << 20
    assert 0 < stats["memory_stats"]["usage"] < 64 << 20
    assert {"anon", "file", "inactive_file", "pgfault"} <= set(stats["memory_stats"]["stats"])
    assert stats["pids_stats"]["limit"] == 50 and stats["pids_stats"]["current"] >= 1
    assert (
        stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0
        and stats["cpu_stats"]["online_cpus"] == os.cpu_count()
    )
    assert sum(entry["value"] for entry in stats["blkio_stats"]["io_service_bytes_recursive"]) >= 4 << 20
    assert stats["networks"]["eth0"]["rx_bytes"] >= 0
    shown = engine.docker(
        "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", "box"
    ).stdout
    assert shown.startswith("box ") and "64MiB" in shown


def test_processes_in_a_parent_of_ones_own(engine: RunningEngine) -> None:
    engine.docker(
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "--cgroup-parent",
        "/vm-test",
        "-m",
        "64m",
        "busybox",
        "sleep",
        "1000",
    )
    directory = directory_of(engine, "box")
    assert directory.parent == Path("/sys/fs/cgroup/vm-test")
    assert read(directory, "memory.max") == ["67108864"]
    engine.docker("exec", "-d", "box", "sleep", "2000")
    until(lambda: len(read(directory, "cgroup.procs")[0].split()) == 2)
    engine.docker("rm", "-f", "box")
    os.rmdir("/sys/fs/cgroup/vm-test")


def test_the_engine_was_killed(make_engine: Callable[..., RunningEngine]) -> None:
    """A new engine knows the limits, the processes and an OOM that came in between."""
    engine = make_engine()
    engine.docker(
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "hog",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        "while ! [ -e /go ]; do sleep 0.1; done; " + MEMORY_HOG,
    )
    directory = directory_of(engine, "hog")
    engine.docker("exec", "hog", "touch", "/ready")
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", "hog").stdout.strip()
    engine.kill()
    Path(f"/proc/{pid}/root/go").touch()
    until(lambda: not directory.exists() or not read(directory, "cgroup.procs")[0])
    engine.start()
    state = json.loads(engine.docker("inspect", "hog").stdout)[0]["State"]
    assert (state["Status"], state["OOMKilled"], state["ExitCode"]) == ("exited", True, 137)


def test_ports_with_this_kernels_packet_filter(engine: RunningEngine) -> None:
    """Published on all addresses and on one, from the host by localhost and by the bridge, and from another container."""
    script = "mkdir /www; echo hello > /www/index.html; httpd -f -h /www"
    engine.docker(
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "-p",
        "127.0.0.1:8081:80",
        "busybox",
        "sh",
        "-c",
        script,
    )
    gateway = engine.bip.partition("/")[0]
    for address in ("127.0.0.1:8080", "127.0.0.1:8081", f"{gateway}:8080", "10.0.2.15:8080"):
        until(lambda address=address: fetch(address) == "hello\n")  # type: ignore[misc]
    assert fetch("10.0.2.15:8081") is None
    done = engine.docker("run", "--rm", "busybox", "wget", "-q", "-O", "-", f"http://{gateway}:8080/")
    assert done.stdout == "hello\n"
    engine.docker("rm", "-f", "web")
    assert fetch("127.0.0.1:8080") is None


def fetch(address: str) -> str | None:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
            return str(answer.read().decode())
    except (OSError, urllib.error.URLError):
        return None
