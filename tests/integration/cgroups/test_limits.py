"""Limits: what the kernel says afterwards, and what it does to a process that goes over them."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable

import pytest

from sampan.cgroups import Cgroup, CgroupError, Layout
from sampan.cgroups.devices import fold
from sampan.cgroups.ebpf import attach_device_filter
from sampan.cgroups.v2 import CgroupV2
from sampan.oci.defaults import device_rules

pytestmark = pytest.mark.root
Spawn = Callable[..., "subprocess.Popen[bytes]"]
MIB = 1 << 20

EATER = "read go; exec python3 -c 'b = bytearray(256 << 20)'"


def value(cgroup: Cgroup, controller: str, v1: str, v2: str) -> str:
    paths = cgroup.paths
    with open(f"{paths['']}/{v2}" if "" in paths else f"{paths[controller]}/{v1}") as file:
        return file.read().strip()


def run_in(cgroup: Cgroup, spawn: Spawn, script: str) -> subprocess.Popen[bytes]:
    """A shell that is attached before it runs `script`, which starts with `read go`."""
    process = spawn(
        "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    cgroup.attach(process.pid)
    return process


def finish(process: subprocess.Popen[bytes]) -> bytes:
    return process.communicate(b"go\n", timeout=30)[0]


def test_cpu(cgroup: Cgroup) -> None:
    cgroup.apply({"cpu": {"shares": 1024, "quota": 50_000, "period": 100_000}})
    assert value(cgroup, "cpu", "cpu.shares", "cpu.weight") in ("1024", "100")
    if "" in cgroup.paths:
        assert value(cgroup, "cpu", "", "cpu.max") == "50000 100000"
    else:
        assert value(cgroup, "cpu", "cpu.cfs_quota_us", "") == "50000"
    cgroup.update(
        {"cpu": {"quota": 5_000, "period": 10_000}}
    )  # in one order the kernel refuses the state between
    cgroup.update({"cpu": {"quota": -1}})
    assert value(cgroup, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] in ("-1", "max")


def test_cpu_shares_out_of_range(cgroup: Cgroup, layout: Layout) -> None:
    if layout.version == "v2":
        cgroup.apply({"cpu": {"shares": 1_000_000}})
        assert value(cgroup, "", "", "cpu.weight") == "10000"
        return
    with pytest.raises(CgroupError, match="maximum allowed cpu-shares is 262144"):
        cgroup.apply({"cpu": {"shares": 1_000_000}})
    with pytest.raises(CgroupError, match="minimum allowed cpu-shares is 2"):
        cgroup.apply({"cpu": {"shares": 1}})


def test_cpuset_is_inherited_and_set(cgroup: Cgroup) -> None:
    if "" not in cgroup.paths:
        assert value(cgroup, "cpuset", "cpuset.cpus", "")
    cgroup.apply({"cpu": {"cpus": "0", "mems": "0"}})
    assert value(cgroup, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"


def test_memory_and_swap_up_and_down(cgroup: Cgroup) -> None:
    for limit, swap in ((64, 128), (256, 512), (32, 32), (128, -1), (16, 20)):
        memory_and_swap = swap * MIB if swap > 0 else swap
        cgroup.update({"memory": {"limit": limit * MIB, "swap": memory_and_swap, "reservation": 8 * MIB}})
        assert value(cgroup, "memory", "memory.limit_in_bytes", "memory.max") == str(limit * MIB)
    assert value(cgroup, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(8 * MIB)
    cgroup.update({"memory": {"limit": -1}})
    assert cgroup.stats()["memory_stats"]["limit"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_limit_below_usage_is_refused_or_kills(cgroup: Cgroup, layout: Layout, spawn: Spawn) -> None:
    script = "read go; exec python3 -c 'b = bytearray(64 << 20); print(1, flush=True); input()'"
    process = run_in(cgroup, spawn, script)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"go\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"1\n"
    with pytest.raises(CgroupError, match=r"unable to set memory limit|rejecting memory limit"):
        cgroup.update({"memory": {"limit": 8 * MIB, "swap": 8 * MIB, "checkBeforeUpdate": True}})


def test_pids(cgroup: Cgroup, spawn: Spawn) -> None:
    cgroup.apply({"pids": {"limit": 3}})
    process = run_in(cgroup, spawn, "read go; for i in 1 2 3 4 5; do sleep 5 & done; echo done")
    output = finish_first_line(process)
    assert b"fork" in output
    cgroup.update({"pids": {"limit": -1}})
    assert value(cgroup, "pids", "pids.max", "pids.max") == "max"


def finish_first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"go\n")
    process.stdin.close()
    return process.stdout.readline()


def test_oom_is_noticed(cgroup: Cgroup, spawn: Spawn) -> None:
    cgroup.apply({"memory": {"limit": 16 * MIB, "swap": 16 * MIB}})
    watch = cgroup.watch_oom()
    try:
        process = run_in(cgroup, spawn, EATER)
        finish(process)
        assert process.returncode == -9
        assert select.select([watch], [], [], 10)[0], "no notice"
        watch.read()
        assert cgroup.oom_kills() == 1
    finally:
        watch.close()


def test_oom_watch_is_quiet_without_oom(cgroup: Cgroup) -> None:
    watch = cgroup.watch_oom()
    assert not select.select([watch], [], [], 0)[0]
    assert watch.read() == 0
    watch.close()


def test_devices(cgroup: Cgroup, spawn: Spawn) -> None:
    cgroup.apply({"devices": device_rules()})
    check_devices(cgroup, spawn)


def test_devices_by_ebpf(unified: CgroupV2, spawn: Spawn) -> None:
    """The v2 program on any machine: attached, obeyed, and replaced without a trace of the former one."""
    attach_device_filter(unified.paths[""], fold(device_rules()))
    check_devices(unified, spawn)
    attach_device_filter(
        unified.paths[""], fold([{"allow": True}, {"allow": False, "type": "c", "major": 1, "minor": 11}])
    )
    process = run_in(unified, spawn, "read go; (: < /dev/kmsg) || echo no kmsg; (: < /dev/zero) && echo zero")
    assert [line for line in finish(process).splitlines() if b"/dev" not in line] == [b"no kmsg", b"zero"]
    attach_device_filter(unified.paths[""], fold(device_rules(privileged=True)))
    assert finish(run_in(unified, spawn, "read go; head -c1 /dev/zero >/dev/null && echo ok")) == b"ok\n"


def check_devices(cgroup: Cgroup, spawn: Spawn) -> None:
    process = run_in(
        cgroup,
        spawn,
        "read go; echo hello > /dev/null && echo null; head -c1 /dev/zero > /dev/null && echo zero;"
        "(: < /dev/kmsg) 2> /dev/null || echo no kmsg",
    )
    assert finish(process).split(b"\n") == [b"null", b"zero", b"no kmsg", b""]


def test_unified_keys(cgroup: Cgroup, layout: Layout) -> None:
    if layout.version != "v2":
        with pytest.raises(CgroupError, match="cannot use unified on cgroup v1"):
            cgroup.apply({"unified": {"memory.high": "1000000"}})
        return
    cgroup.apply({"unified": {"memory.high": str(4 * MIB)}})
    assert value(cgroup, "", "", "memory.high") == str(4 * MIB)
    with pytest.raises(CgroupError, match="no slashes"):
        cgroup.apply({"unified": {"../memory.max": "0"}})
    with pytest.raises(CgroupError, match='controller "nothing" not available'):
        cgroup.apply({"unified": {"nothing.max": "0"}})


def test_missing_controller_is_an_error_when_asked_for(cgroup: Cgroup) -> None:
    cgroup.apply({"hugepageLimits": [], "network": {}, "rdma": {}})
    with pytest.raises(CgroupError, match="hugetlb"):
        cgroup.apply({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]})


def test_stats(cgroup: Cgroup, spawn: Spawn) -> None:
    finish(run_in(cgroup, spawn, "read go; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"))
    sleeper = spawn("sleep", "60")
    cgroup.attach(sleeper.pid)
    stats = cgroup.stats()
    cpu = stats["cpu_stats"]
    assert 1_000_000 < cpu["cpu_usage"]["total_usage"] < cpu["system_cpu_usage"]
    assert cpu["online_cpus"] == os.cpu_count()
    assert stats["pids_stats"]["current"] == 1
    assert stats["memory_stats"]["usage"] >= 0
    assert stats["memory_stats"]["stats"]
