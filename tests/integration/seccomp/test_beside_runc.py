"""What the filter lets through in containers of the engine: the same with Sampan's own runtime as with runc's libseccomp, for
ordinary containers, for such with capabilities that open more of it, for privileged ones, and with profiles of the user's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

ATTEMPTS = (
    "unshare -m true",
    "unshare -U true",
    "unshare -n true",
    "hostname other",
    "mount -t tmpfs none /tmp",
    "umount /tmp",
    "pivot_root / /",
    "chroot / true",
    "nsenter --target 1 --mount true",
    "swapon /etc/passwd",
    "insmod /etc/passwd",
    "rmmod nosuchmodule",
    "dmesg -n 8",
    "mknod /tmp/node c 1 3",
    "renice -n -5 1",
    "ionice -c 1 true",
    "setarch x86_64 true",
    "setarch i386 true",
    "kill -0 1",
    "adjtimex -f 0",
    "ls /proc/1/root/",
)
"""Each asks for system calls that the default profile gives by capability (or to nobody)."""


@pytest.fixture(scope="module")
def two_runtimes(tmp_path_factory: pytest.TempPathFactory, busybox: bytes) -> Iterator[RunningEngine]:
    """Sampan's own runtime is called `runc`; Debian's is `debian-runc`."""
    running = RunningEngine(tmp_path_factory.mktemp("two"), ["--add-runtime", "debian-runc=/usr/sbin/runc"])
    with running.holding(busybox):
        yield running


def outcomes(engine: RunningEngine, runtime: str, *options: str) -> dict[str, str]:
    """attempt → exit code and what it said."""
    script = "".join(f"echo '# {each}'; {each} 2>&1; echo code $?; " for each in ATTEMPTS)
    run = ("run", "--rm", "--network", "none", "--runtime", runtime, *options)
    text = engine.docker(*run, "busybox", "sh", "-c", script, check=False).stdout
    parts = [part.partition("\n") for part in text.split("# ")[1:]]
    return {head: rest.strip() for head, _, rest in parts}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--user", "1000"),
        ("--cap-drop", "ALL"),
        ("--cap-add", "SYS_ADMIN"),
        ("--cap-add", "SYS_MODULE"),
        ("--cap-add", "SYSLOG"),
        ("--cap-add", "SYS_NICE"),
        ("--cap-add", "SYS_PTRACE"),
        ("--cap-drop", "SYS_CHROOT"),
        ("--cap-add", "SYS_ADMIN", "--security-opt", "no-new-privileges"),
        ("--security-opt", "seccomp=unconfined"),
        ("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"),
    ],
    ids=" ".join,
)
def test_the_same_is_allowed(two_runtimes: RunningEngine, options: tuple[str, ...]) -> None:
    ours = outcomes(two_runtimes, "runc", *options)
    assert len(ours) == len(ATTEMPTS)
    assert ours == outcomes(two_runtimes, "debian-runc", *options)


def test_privileged_containers_have_no_filter_but_their_own(
    two_runtimes: RunningEngine, tmp_path: Path
) -> None:
    run = ("run", "--rm", "--network", "none", "--privileged")
    look = ("busybox", "grep", "^Seccomp:", "/proc/self/status")
    profile = write(tmp_path, [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}])
    for runtime in ("runc", "debian-runc"):
        chosen = ("--runtime", runtime)
        assert two_runtimes.docker(*run, *chosen, *look).stdout.split() == ["Seccomp:", "0"]
        done = two_runtimes.docker(*run, *chosen, "--security-opt", profile, *look)
        assert done.stdout.split() == ["Seccomp:", "2"]


@pytest.mark.parametrize(
    ("condition", "options", "refused"),
    [
        ({}, (), True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, (), False),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, ("--cap-add", "SYS_ADMIN"), True),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, (), True),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, ("--cap-add", "SYS_ADMIN"), False),
        ({"excludes": {"caps": ["CAP_CHOWN"]}}, ("--cap-drop", "ALL"), True),
        ({"includes": {"arches": ["amd64"]}}, (), True),
        ({"includes": {"arches": ["s390x"]}}, (), False),
        ({"excludes": {"arches": ["amd64", "arm64"]}}, (), False),
        ({"includes": {"minKernel": "4.8"}}, (), True),
        ({"includes": {"minKernel": "99.1"}}, (), False),
        ({"excludes": {"minKernel": "4.8"}}, (), False),
        (
            {"excludes": {"minKernel": "99.1"}, "includes": {"caps": ["CAP_CHOWN"], "minKernel": "3.0"}},
            (),
            True,
        ),
    ],
)
def test_conditions_of_a_profile(
    two_runtimes: RunningEngine,
    tmp_path: Path,
    condition: dict[str, Any],
    options: tuple[str, ...],
    refused: bool,
) -> None:
    """The rule holds, or does not, whichever runtime gets what the engine made of it."""
    profile = write(
        tmp_path, [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, **condition}]
    )
    for runtime in ("runc", "debian-runc"):
        run = ("run", "--rm", "--network", "none", "--runtime", runtime, "--security-opt", profile, *options)
        done = two_runtimes.docker(*run, "busybox", "mkdir", "/tmp/x", check=False)
        assert ("No space left on device" in done.stderr) is refused, (runtime, done.stderr)


def rule(**more: Any) -> dict[str, Any]:
    return {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", **more}


NOTIFY = rule(action="SCMP_ACT_NOTIFY")
LISTENER = {"listenerPath": "/run/l.sock"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"defaultAction": 7}, "decoding seccomp profile failed"),
        ({"syscalls": [NOTIFY]}, "listenerPath"),
        (
            {"defaultAction": "SCMP_ACT_NOTIFY", **LISTENER},
            "SCMP_ACT_NOTIFY cannot be used as default action",
        ),
        ({"syscalls": [rule(includes={"minKernel": "x"})]}, "invalid kernel version"),
        ({"architectures": ["SCMP_ARCH_NONE"]}, "SCMP_ARCH_NONE"),
        ({"flags": ["NO_SUCH_FLAG"]}, "NO_SUCH_FLAG"),
    ],
)
def test_mistakes_are_named(
    engine: RunningEngine, tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    (tmp_path / "profile.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", **fields}))
    option = ("--security-opt", f"seccomp={tmp_path / 'profile.json'}")
    done = engine.docker("run", "--rm", "--network", "none", *option, "busybox", "mkdir", "/x", check=False)
    assert done.returncode == 125
    assert words in done.stderr


def write(directory: Path, rules: list[dict[str, Any]]) -> str:
    """The option for a profile that allows everything but what the rules say."""
    file = directory / "profile.json"
    file.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    return f"seccomp={file}"
