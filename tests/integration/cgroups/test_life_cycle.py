"""Create, attach, freeze, kill, rename, delete, in the machine's own layout."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.cgroups import Cgroup, CgroupError, Entrance, Layout
from sampan.cgroups.v2 import CgroupV2
from sampan.errors import NotSupported

pytestmark = pytest.mark.root
Spawn = Callable[..., "subprocess.Popen[bytes]"]


def cpu_ticks(pid: int) -> list[str]:
    """User and system time of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]


def test_attached_processes_are_its_members(cgroup: Cgroup, spawn: Spawn) -> None:
    process = spawn("sleep", "60")
    cgroup.attach(process.pid)
    assert cgroup.processes() == [process.pid]
    with open(f"/proc/{process.pid}/cgroup") as lines:
        paths = [line.strip().split(":", 2) for line in lines]
    assert {path for _, names, path in paths if names or len(cgroup.paths) == 1} == {cgroup.path}


def test_kill_reaches_descendants_and_sub_cgroups(cgroup: Cgroup, layout: Layout, spawn: Spawn) -> None:
    inner = layout.cgroup(cgroup.path + "/inner")
    inner.create()
    processes = [spawn("sleep", "60"), spawn("sleep", "60")]
    if layout.version == "v2":  # no processes beside child cgroups
        inner.attach(processes[0].pid)
    else:
        cgroup.attach(processes[0].pid)
    inner.attach(processes[1].pid)
    assert set(cgroup.processes()) == {process.pid for process in processes}
    cgroup.kill()
    assert [process.wait(10) for process in processes] == [-9, -9]
    cgroup.delete()
    assert not cgroup.exists()


def test_a_fork_bomb_is_killed(cgroup: Cgroup, spawn: Spawn) -> None:
    cgroup.apply({"pids": {"limit": 40}})
    # a shell would end where it cannot fork: this one stays
    script = (
        "import os, signal, sys\nsys.stdin.readline()\nwhile True:\n"
        "    try:\n        os.fork()\n    except OSError:\n        signal.pause()\n"
    )
    process = spawn(sys.executable, "-S", "-c", script, stdin=subprocess.PIPE)
    cgroup.attach(process.pid)
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    process.stdin.close()
    while len(cgroup.processes()) < 20:
        assert process.poll() is None
    cgroup.kill()
    cgroup.delete()


def test_freeze_stops_and_kill_reaches_the_frozen(cgroup: Cgroup, spawn: Spawn) -> None:
    process = spawn("sh", "-c", "while :; do :; done")
    cgroup.attach(process.pid)
    cgroup.freeze()
    assert cgroup.frozen()
    before, until = cpu_ticks(process.pid), time.monotonic() + 0.05
    while time.monotonic() < until:
        assert cpu_ticks(process.pid) == before
    cgroup.thaw()
    assert not cgroup.frozen()
    cgroup.freeze()
    cgroup.kill()
    assert process.wait(10) == -9


def test_a_parked_cgroup_becomes_the_container_s(
    cgroup: Cgroup, new_cgroup: Callable[[], Cgroup], layout: Layout, spawn: Spawn
) -> None:
    target = new_cgroup()
    process = spawn("sleep", "60")
    cgroup.attach(process.pid)
    if not layout.can_rename:
        with pytest.raises(NotSupported, match="CLONE_INTO_CGROUP"):
            cgroup.rename(target.path)
        return
    cgroup.apply({"pids": {"limit": 7}})
    cgroup.rename(target.path)
    assert cgroup.path == target.path
    assert target.processes() == [process.pid]
    assert Path(target.paths["pids"], "pids.max").read_text() == "7\n"


def test_rename_to_a_taken_name_changes_nothing(
    cgroup: Cgroup, new_cgroup: Callable[[], Cgroup], layout: Layout
) -> None:
    if not layout.can_rename:
        return
    taken = new_cgroup()
    os.makedirs(taken.paths["pids"])  # in one hierarchy only: the rename fails half-way
    path = cgroup.path
    with pytest.raises(CgroupError, match=r"rename .* File exists"):
        cgroup.rename(taken.path)
    assert cgroup.path == path
    assert all(os.path.isdir(directory) for directory in cgroup.paths.values())


def test_delete_names_what_is_in_the_way(cgroup: Cgroup, spawn: Spawn) -> None:
    process = spawn("sleep", "60")
    cgroup.attach(process.pid)
    with pytest.raises(CgroupError, match=rf"in use by processes \[{process.pid}\]"):
        cgroup.delete(timeout=0.01)


def test_delete_of_nothing_is_fine(new_cgroup: Callable[[], Cgroup]) -> None:
    new_cgroup().delete()
    assert new_cgroup().processes() == []


def test_errors_name_file_and_value(cgroup: Cgroup) -> None:
    with pytest.raises(CgroupError, match=r'failed to write "99": write /sys/fs/cgroup/.*cpuset.cpus: '):
        cgroup.apply({"cpu": {"cpus": "99"}})


def test_v2_core_files(unified: CgroupV2, spawn: Spawn) -> None:
    """Freezing, killing and removing through cgroup.* files, on hybrid machines too."""
    process = spawn("sh", "-c", "while :; do :; done")
    unified.attach(process.pid)
    unified.freeze()
    assert unified.frozen()
    unified.thaw()
    unified.kill()
    assert process.wait(10) == -9
    unified.delete()
    assert not unified.exists()


def _clone_sees_itself_in(entrance: Entrance, path: str) -> bool:
    """In every hierarchy: on a hybrid machine the v2 one has no controllers, and containers are not in it."""
    from sampan.linux.process import clone3

    child = clone3(cgroup=entrance.directory)
    if child.pid == 0:
        entrance.enter()
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        places = {place for _, names, place in lines if bool(names) == bool(entrance.tasks)}
        os._exit(0 if places == {path} else 1)
    if child.pidfd >= 0:
        os.close(child.pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == 0


def test_a_clone_goes_in_by_itself(cgroup: Cgroup) -> None:
    with cgroup.entrance() as entrance:
        assert _clone_sees_itself_in(entrance, cgroup.path)


def test_the_entrance_of_nothing_is_refused(new_cgroup: Callable[[], Cgroup]) -> None:
    with pytest.raises(CgroupError, match="No such file or directory"):
        new_cgroup().entrance()


def test_v2_clone_is_born_in_the_cgroup(unified: CgroupV2) -> None:
    with unified.entrance() as entrance:
        assert entrance.directory is not None
        assert _clone_sees_itself_in(entrance, unified.path)
