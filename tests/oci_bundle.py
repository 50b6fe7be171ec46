"""An OCI bundle over busybox, and running it with Sampan's runtime or with runc: for tests of the runtime alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, NamedTuple

APPLETS = (
    "sh cat ls id env true false sleep grep echo mount umount touch mkdir rm ln stat hostname head cut sort wc "
    "chmod chown dd kill ps tty stty readlink find mknod unshare sync test od cp mv tr"
)

DOCKER_CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
]  # fmt: skip

SAMPAN = [sys.executable, "-c", "from sampan.runtime.command.entry import main; main()"]
RUNC = ["/usr/sbin/runc"]


class Result(NamedTuple):
    code: int
    out: str
    err: str


class Bundle:
    """A bundle directory with a Docker-like spec, freely changed by the test; `close` removes what it started."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "bundle"
        self.rootfs = self.path / "rootfs"
        self.state = directory / "state"
        (self.rootfs / "bin").mkdir(parents=True)
        for name in ("etc", "tmp", "root", "proc", "sys", "dev"):
            (self.rootfs / name).mkdir()
        shutil.copy("/bin/busybox", self.rootfs / "bin/busybox")
        for applet in APPLETS.split():
            (self.rootfs / "bin" / applet).symlink_to("busybox")
        self.spec = docker_like_spec()
        self._started: list[tuple[list[str], str]] = []

    def write(self) -> None:
        (self.path / "config.json").write_text(json.dumps(self.spec))

    def script(self, text: str) -> Bundle:
        """Make a shell script the container's program."""
        self.spec["process"]["args"] = ["/bin/sh", "-c", text]
        return self

    def mount(self, destination: str, **fields: Any) -> Bundle:
        self.spec["mounts"].append({"destination": destination, **fields})
        return self

    def run(self, *arguments: str, runtime: list[str] | None = None, **options: Any) -> Result:
        """`run` it in the foreground under a fresh name."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self._started.append((runtime or SAMPAN, name))
        self.write()
        return self.command("run", "--bundle", str(self.path), *arguments, name, runtime=runtime, **options)

    def create(self, *arguments: str, runtime: list[str] | None = None) -> tuple[str, Result]:
        """`create` it with streams at /dev/null; its name, and how that went."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self._started.append((runtime or SAMPAN, name))
        self.write()
        return name, self.command(
            "create", "--bundle", str(self.path), *arguments, name, runtime=runtime, stdout=subprocess.DEVNULL
        )

    def start(self, *arguments: str, runtime: list[str] | None = None) -> str:
        """create and start; the name."""
        name, created = self.create(*arguments, runtime=runtime)
        assert created.code == 0, created.err
        started = self.command("start", name, runtime=runtime)
        assert started.code == 0, started.err
        return name

    def command(self, *arguments: str, runtime: list[str] | None = None, **options: Any) -> Result:
        """Any command line of the runtime, on this bundle's own state directory."""
        command = [*(runtime or SAMPAN), "--root", str(self.state), *arguments]
        settings: dict[str, Any] = {
            "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60,
        }  # fmt: skip
        settings.update(options)
        # Files, not pipes: a created container inherits them, and would hold a pipe open.
        log = self.path.parent / f"stderr-{uuid.uuid4().hex}"
        with log.open("w+b") as errors:
            settings["stderr"] = errors
            done = subprocess.run(command, check=False, **settings)
        return Result(done.returncode, (done.stdout or b"").decode(errors="replace"), log.read_text())

    def pid(self, name: str) -> int:
        return int(json.loads(self.command("state", name).out)["pid"])

    def adopt(self, name: str) -> str:
        """Have a container removed that the test starts by itself."""
        self._started.append((SAMPAN, name))
        return name

    def close(self) -> None:
        for runtime, name in self._started:
            self.command("delete", "--force", name, runtime=runtime)


def docker_like_spec() -> dict[str, Any]:
    """What Docker gives an ordinary container, without its network."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "args": ["/bin/true"],
            "cwd": "/",
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "FOO=bar"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": {
                name: list(DOCKER_CAPABILITIES) for name in ("bounding", "effective", "permitted")
            },
        },
        "root": {"path": "rootfs"},
        "hostname": "boxed",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {
                "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
            {
                "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["ro", "nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
        ],
        "linux": {
            "namespaces": [{"type": name} for name in ("mount", "network", "uts", "pid", "ipc")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": [
                "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }  # fmt: skip


def add_namespace(spec: dict[str, Any], kind: str, **fields: Any) -> None:
    """Add, or with `path` replace, one namespace."""
    namespaces = spec["linux"]["namespaces"]
    namespaces[:] = [entry for entry in namespaces if entry["type"] != kind]
    namespaces.append({"type": kind, **fields})


def cgroup_of(pid: int) -> str:
    """/proc/PID/cgroup."""
    return Path(f"/proc/{pid}/cgroup").read_text()


def is_gone(pid: int) -> bool:
    """Ended; whether its parent (the machine's init, for orphans) has reaped it is that one's affair."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True
