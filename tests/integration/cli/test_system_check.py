"""`sampan system check` on machines that lack something: one line each that says what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

CHECK = f"{sys.executable} -m sampan.cli system check"


def within(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """`script` in namespaces of its own, where things can be missing."""
    return subprocess.run(
        ["unshare", *options, "sh", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


def remedy(done: subprocess.CompletedProcess[str], subject: str) -> tuple[str, str]:
    """The mark of the line about `subject`, and the line beneath."""
    found = re.search(rf"^(\w+) +{subject} .*\n? *(?:→ (.*))?", done.stdout, re.M)
    assert found is not None, done.stdout
    return found[1], found[2] or ""


def test_namespaces_that_nobody_may_make() -> None:
    done = within(
        f"echo 0 > /proc/sys/user/max_net_namespaces; {CHECK}", "--user", "--map-root-user", "--mount"
    )
    assert done.returncode == 1
    assert remedy(done, "namespace net") == ("MISSING", "sysctl -w user.max_net_namespaces=10000")
    assert remedy(done, "namespace ipc")[0] == "ok"


def test_an_ordinary_user() -> None:
    done = within(CHECK, "--user", "--map-user=1000", "--map-group=1000")
    assert done.returncode == 1 and remedy(done, "root") == ("MISSING", "run as root: sudo sampan …")


def test_programs_and_cgroups_that_are_not_there(tmp_path: Path) -> None:
    done = within(
        f"mount -t tmpfs none /sys/fs/cgroup; PATH={tmp_path}; export PATH; exec {CHECK}", "--mount"
    )
    assert done.returncode == 1
    mark, advice = remedy(done, "cgroups")
    assert mark == "MISSING" and advice.startswith("mount the controllers blkio, cpu, ")
    for package in ("procps", "busybox-static", "mmdebstrap"):
        mark, advice = remedy(done, package)
        assert mark == "limited" and advice.startswith(f"apt-get install {package} ")


def test_a_serial_console_that_shows_every_line(tmp_path: Path) -> None:
    (tmp_path / "consoles").write_text("ttyS0                -W- (EC  p a)    4:64\n")
    seen = {}
    for level in ("7", "4"):
        (tmp_path / "printk").write_text(f"{level}\t4\t1\t7\n")
        mounts = f"mount --bind {tmp_path}/consoles /proc/consoles; mount --bind {tmp_path}/printk /proc/sys/kernel/printk"
        seen[level] = remedy(within(f"{mounts}; {CHECK}", "--mount"), "kernel's log")
    mark, advice = seen["7"]
    assert mark == "limited" and advice.startswith("sysctl -w kernel.printk=4 ")
    assert seen["4"] == ("ok", "")
