"""What the engine process makes of the surroundings that it was started in.

An engine on demand is started by whatever program first needed it: a test run, a cron job, a shell with odd limits. Nothing of that
may reach containers, so the process chooses its own working directory, umask, limits, signal mask, environment and cgroup.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
from pathlib import Path

from sampan.errors import SystemFailure

_KEPT = frozenset(
    {
        "PATH",
        "HOME",
        "TMPDIR",
        "NO_PROXY",
        "no_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
    }
)
_KEPT_PREFIXES = ("SAMPAN_", "DOCKER_", "XDG_", "LISTEN_", "NOTIFY_SOCKET", "LC_", "LANG")
_SANE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def choose_surroundings() -> None:
    """Replace what was inherited. Call once, before any thread exists."""
    os.chdir("/")
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for name in list(os.environ):
        if name not in _KEPT and not name.startswith(_KEPT_PREFIXES):
            del os.environ[name]
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = (
        _SANE_PATH
        if not path
        else path + "".join(":" + part for part in _SANE_PATH.split(":") if part not in path.split(":"))
    )
    _raise_limits()


def _raise_limits() -> None:
    """Soft limits up to the hard ones: an engine holds several descriptors per container."""
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC):
        _, hard = resource.getrlimit(limit)
        try:
            resource.setrlimit(limit, (hard, hard))
        except (OSError, ValueError):
            continue
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def leave_callers_cgroup() -> None:
    """Move to the root of every v1 hierarchy: an engine on demand must not be killed or throttled with whoever started it.

    Best effort: on v2 below systemd the caller's scope is left alone, because processes in the root are refused there.
    """
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or path == "/":
            continue
        mount = Path("/sys/fs/cgroup", controllers.removeprefix("name="))
        try:
            (mount / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            continue


class Lock:
    """One engine per directory: a lock that the kernel drops when the process dies, however it dies."""

    def __init__(self, path: Path, flag: str) -> None:
        """Raises `SystemFailure` that names the flag to give another directory with."""
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)  # not everybody's to list (CVE-2021-41091)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise SystemFailure(
                f"another engine uses {path.parent}: stop it, or give this one a {flag} of its own"
            ) from None

    def release(self) -> None:
        """Let the next engine in."""
        os.close(self._fd)


class PidFile:
    """dockerd's `--pidfile`. Refuses to start while the process that it names lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            pid = int(path.read_text())
            if pid != os.getpid() and Path(f"/proc/{pid}").exists():
                raise SystemFailure(
                    f"failed to start engine, ensure it is not running or delete {path}: process with PID {pid} is still running"
                )
        except (FileNotFoundError, ValueError):
            pass
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(os.getpid()))

    def remove(self) -> None:
        """At shutdown. Idempotent."""
        self._path.unlink(missing_ok=True)


def notify_supervisor(state: str) -> None:
    """sd_notify(3): `READY=1`, `STOPPING=1`, `RELOADING=1`. Does nothing without a supervisor."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagram:
        try:
            datagram.connect("\0" + address[1:] if address.startswith("@") else address)
            datagram.sendall(state.encode())
        except OSError:
            return
