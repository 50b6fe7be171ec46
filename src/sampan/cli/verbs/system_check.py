"""system check: what this machine lacks, one verdict per line."""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

from sampan.cli.command import verb
from sampan.cli.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.cli.session import Session


_KERN_INFO = 6
"""The level of a bridge's messages; the console shows those below its own level."""


class Verdict(NamedTuple):
    """One line: `remedy` is empty when all is well."""

    subject: str
    finding: str
    remedy: str
    needed: bool = True
    """False: the engine works without, something is missing though."""


@verb("", "Say whether this machine has everything that the engine needs", aliases=("system check",))
def check(session: Session, args: tuple[str, ...]) -> None:
    """Exit code 1 when something needed is missing."""
    verdicts = list(_verdicts())
    width = max(len(verdict.subject) for verdict in verdicts)
    for verdict in verdicts:
        mark = "ok" if not verdict.remedy else "MISSING" if verdict.needed else "limited"
        print(f"{mark:<8} {verdict.subject.ljust(width)}  {verdict.finding}")
        if verdict.remedy:
            print(f"{'':8} {'':{width}}  → {verdict.remedy}")
    missing = sum(bool(verdict.remedy) and verdict.needed for verdict in verdicts)
    if missing:
        raise ExitStatus(1, f"{missing} thing{'s' if missing > 1 else ''} missing: see → above")
    print("This machine can run containers.")


def _verdicts() -> Iterator[Verdict]:
    if not sys.platform.startswith("linux"):
        yield Verdict(
            "operating system", sys.platform, "containers need Linux; use -H tcp://HOST:2376 or DOCKER_HOST"
        )
        return
    yield _kernel()
    yield _python()
    yield _root()
    yield _root_directory()
    yield _overlay()
    yield from _namespaces()
    yield _cgroups()
    yield _seccomp()
    yield _idmapped()
    yield _apparmor()
    yield _selinux()
    yield from _network()
    yield _console()
    yield from _tools()


def _kernel() -> Verdict:
    return Verdict(
        "kernel",
        platform.release(),
        "" if _release() >= (5, 10) else "Linux 5.10 or newer is needed (openat2, pidfds, clone3)",
    )


def _release() -> tuple[int, ...]:
    """(major, minor) of the kernel."""
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2] if part.isdecimal())


def _python() -> Verdict:
    version = platform.python_version()
    return Verdict("python", version, "" if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed")


def _root() -> Verdict:
    user = os.geteuid()
    return Verdict("root", f"uid {user}", "" if user == 0 else "run as root: sudo sampan …")


def _root_directory() -> Verdict:
    from sampan.linux.chroot import ADVICE, in_chroot

    inside = in_chroot()
    return Verdict("root directory", "a chroot" if inside else "its own", ADVICE if inside else "")


def _overlay() -> Verdict:
    with open("/proc/filesystems", encoding="ascii") as file:
        found = any(line.split()[-1:] == ["overlay"] for line in file)
    if not found and os.geteuid() == 0 and shutil.which("modprobe"):
        import subprocess

        found = subprocess.run(["modprobe", "overlay"], capture_output=True, check=False).returncode == 0
    remedy = "" if found else "modprobe overlay (without it layers are copied: slower, and more disk)"
    return Verdict("overlay file system", "present" if found else "absent", remedy, needed=False)


def _namespaces() -> Iterator[Verdict]:
    for name, needed in (
        *((kind, True) for kind in ("mnt", "pid", "net", "ipc", "uts")),
        *((kind, False) for kind in ("cgroup", "user", "time")),
    ):
        finding, remedy = _namespace(name)
        yield Verdict(f"namespace {name}", finding, remedy, needed)


def _namespace(name: str) -> tuple[str, str]:
    """Finding and remedy: a kernel may have been built without it, or an administrator have allowed none."""
    if not os.path.exists(f"/proc/self/ns/{name}"):
        option = "NAMESPACES" if name == "mnt" else f"{name.upper()}_NS"
        return "absent", f"a kernel with CONFIG_{option}"
    try:
        with open(f"/proc/sys/user/max_{name}_namespaces", encoding="ascii") as file:
            allowed = int(file.read())
    except OSError:  # a kernel before 4.9, or none of this kind
        allowed = 1
    return ("present", "") if allowed else ("none allowed", f"sysctl -w user.max_{name}_namespaces=10000")


def _cgroups() -> Verdict:
    root = "/sys/fs/cgroup"
    if os.path.exists(f"{root}/cgroup.controllers"):
        return _cgroups_v2(root)
    have = set(os.listdir(root)) if os.path.isdir(root) else set()
    lacking = {"cpu", "cpuset", "memory", "pids", "devices", "freezer", "blkio"} - have
    remedy = f"mount the controllers {', '.join(sorted(lacking))} below {root}" if lacking else ""
    kind = "v1, hybrid (limits by v1)" if "unified" in have else "v1"
    return Verdict("cgroups", kind, remedy, needed=len(have) == 0)


def _cgroups_v2(root: str) -> Verdict:
    """The controllers that an engine of this user may hand to containers: root's all, another user's what was delegated."""
    user = os.geteuid()
    directory = root if user == 0 else f"{root}/user.slice/user-{user}.slice/user@{user}.service"
    try:
        with open(f"{directory}/cgroup.controllers", encoding="ascii") as file:
            have = set(file.read().split())
    except OSError:
        have = set()
    lacking = ", ".join(sorted({"cpu", "cpuset", "io", "memory", "pids"} - have))
    if not lacking:
        remedy = ""
    elif user == 0:
        remedy = f"without the controllers {lacking} their limits are discarded: see cgroup_disable= in /proc/cmdline"
    else:
        remedy = f"delegate {lacking} to this user: systemctl edit user@.service, [Service] Delegate=yes"
    return Verdict("cgroups", "v2", remedy, needed=not have and user == 0)


def _seccomp() -> Verdict:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        present = any(line.startswith("Seccomp:") for line in file)
    return Verdict(
        "seccomp",
        "present" if present else "absent",
        "" if present else "a kernel with CONFIG_SECCOMP_FILTER",
    )


def _idmapped() -> Verdict:
    found = _release() >= (5, 19)
    remedy = "" if found else "Linux 5.19 or newer (for --userns-remap)"
    return Verdict("id-mapped layers", _presence(found), remedy, needed=False)


def _apparmor() -> Verdict:
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            enabled = file.read(1) == "Y"
    except OSError:
        enabled = False
    if not enabled:
        return Verdict("apparmor", "not in use on this machine", "")
    if not os.path.isdir("/sys/kernel/security/apparmor"):
        remedy = (
            "mount -t securityfs securityfs /sys/kernel/security (until then no profile confines containers)"
        )
        return Verdict("apparmor", "in use, its policy out of sight", remedy, needed=False)
    parser = shutil.which("apparmor_parser", path=f"/sbin:/usr/sbin:{os.environ.get('PATH', '')}")
    remedy = (
        "" if parser else "apt-get install apparmor (without apparmor_parser no profile confines containers)"
    )
    return Verdict("apparmor", "in use" if parser else "in use, no apparmor_parser", remedy, needed=False)


def _selinux() -> Verdict:
    enforced = os.path.exists("/sys/fs/selinux/enforce")
    remedy = "containers get no labels of their own: --security-opt label=disable says so" if enforced else ""
    return Verdict("selinux", "in use" if enforced else "not in use on this machine", remedy, needed=False)


def _network() -> Iterator[Verdict]:
    name = ctypes.util.find_library("nftables") or _library("libnftables.so.1")
    remedy = "" if name else "apt-get install libnftables1 (published ports and isolation need it)"
    yield Verdict("nftables library", name or "absent", remedy)
    netfilter = _can_open(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12))
    yield Verdict("netfilter", _presence(netfilter), "" if netfilter else "a kernel with CONFIG_NF_TABLES")
    for kind in ("bridge", "veth"):
        present = os.path.isdir(f"/sys/module/{kind}") or _in_kernel(kind)
        remedy = "" if present else f"modprobe {kind}"
        yield Verdict(f"network {kind}", _presence(present), remedy, needed=False)


def _library(name: str) -> str:
    try:
        ctypes.CDLL(name)
    except OSError:
        return ""
    return name


def _can_open(open_socket: Callable[[], socket.socket]) -> bool:
    try:
        open_socket().close()
    except OSError:
        return False
    return True


def _in_kernel(module: str) -> bool:
    """Built in, or a file that the kernel loads when it is asked for."""
    folder = f"/lib/modules/{platform.release()}"
    for listing in ("modules.builtin", "modules.dep"):
        try:
            with open(f"{folder}/{listing}", encoding="utf-8") as file:
                if any(f"/{module}.ko" in line.split(":")[0] for line in file):
                    return True
        except OSError:
            continue
    # A kernel without modules (a small VM's) lists none: what it can do shows in its symbols.
    try:
        with open("/proc/kallsyms", encoding="ascii") as file:
            return any(
                f" {'br' if module == 'bridge' else module}_dev_" in line or f" {module}_" in line
                for line in file
            )
    except OSError:
        return False


def _presence(found: bool) -> str:
    return "present" if found else "absent"


def _console() -> Verdict:
    """Each container's bridge port makes ten lines of the kernel's log; a serial console takes about a millisecond for one, and the
    kernel waits for it with its network lock held."""
    try:
        with open("/proc/sys/kernel/printk", encoding="ascii") as file:
            shown = int(file.read().split()[0])
        with open("/proc/consoles", encoding="ascii") as file:
            serial = [
                name for name in (line.split()[0] for line in file) if name.startswith(("ttyS", "ttyAMA"))
            ]
    except OSError:  # not for this user's eyes
        return Verdict("kernel's log", "unknown", "")
    if not serial or shown <= _KERN_INFO:
        return Verdict("kernel's log", "not on a serial console", "")
    remedy = (
        "sysctl -w kernel.printk=4 (ten lines a container, a millisecond each: starts take a third longer)"
    )
    return Verdict("kernel's log", f"every line on the serial console {serial[0]}", remedy, needed=False)


def _tools() -> Iterator[Verdict]:
    for program, package, purpose in (
        ("ps", "procps", "`top`"),
        ("busybox", "busybox-static", "`image bootstrap busybox`"),
        ("mmdebstrap", "mmdebstrap", "`image bootstrap debian`"),
    ):
        found = shutil.which(program)
        remedy = "" if found else f"apt-get install {package} (for {purpose})"
        yield Verdict(package, found or "absent", remedy, needed=False)
