"""What every container gets, as dockerd gives it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sampan.oci import defaults


def test_fourteen_capabilities_all_known() -> None:
    assert len(defaults.CAPABILITIES) == 14
    assert set(defaults.CAPABILITIES) < set(defaults.ALL_CAPABILITIES)
    assert "CAP_SYS_ADMIN" not in defaults.CAPABILITIES


def test_capability_numbers_are_positions() -> None:
    numbers = {"CAP_CHOWN": 0, "CAP_SYS_ADMIN": 21, "CAP_AUDIT_READ": 37, "CAP_CHECKPOINT_RESTORE": 40}
    assert {name: defaults.ALL_CAPABILITIES.index(name) for name in numbers} == numbers


def test_available_capabilities_are_the_bounding_set() -> None:
    (line,) = [
        text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("CapBnd")
    ]
    bits = int(line.split()[1], 16) & (1 << len(defaults.ALL_CAPABILITIES)) - 1
    assert len(defaults.available_capabilities()) == bits.bit_count()


def test_results_are_the_caller_s_own() -> None:
    first = defaults.mounts()
    first[0]["options"].append("changed")
    assert "changed" not in defaults.mounts()[0]["options"]


def test_privileged_can_write_to_sys() -> None:
    options = {mount["destination"]: mount["options"] for mount in defaults.mounts(privileged=True)}
    assert "ro" not in options["/sys"] and "ro" not in options["/sys/fs/cgroup"]
    options = {mount["destination"]: mount["options"] for mount in defaults.mounts(shm_size=4096)}
    assert "ro" in options["/sys"] and "ro" in options["/sys/fs/cgroup"]
    assert "size=4096" in options["/dev/shm"]


def test_masked_paths_cover_the_advisories() -> None:
    masked = defaults.masked_paths()
    assert {"/proc/kcore", "/proc/interrupts", "/sys/firmware", "/sys/devices/virtual/powercap"} < set(masked)
    assert not set(masked) & set(defaults.readonly_paths())


def test_device_at_describes_nodes_only(tmp_path: Path) -> None:
    assert defaults.device_at(str(tmp_path)) is None
    assert defaults.device_at(str(tmp_path / "missing")) is None
    null = defaults.device_at("/dev/null", "/dev/nothing")
    assert null is not None
    assert (null["path"], null["type"], null["major"], null["minor"]) == ("/dev/nothing", "c", 1, 3)


@pytest.mark.root
def test_host_devices_leave_out_consoles_and_what_the_runtime_makes(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root: makes device nodes")
    (tmp_path / "dir").mkdir()
    for name, major, minor in (("null", 1, 3), ("tty1", 4, 1), ("dir/thing", 10, 99)):
        os.mknod(tmp_path / name, stat.S_IFCHR | 0o600, os.makedev(major, minor))
    (tmp_path / "link").symlink_to("dir/thing")
    found = [Path(device["path"]).name for device in defaults.host_devices(str(tmp_path))]
    assert found == ["thing"]
