"""Small containers for tests of the process model: busybox, a spec like the engine's, a launcher of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from sampan.runtime.launcher import PRELOAD, Launcher, LauncherConfig
from sampan.zygote.client import Zygote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sampan.runtime.interface import ContainerLaunch, LogConfig
    from sampan.runtime.shimclient import ShimHandle, SocketStream

PATH = "PATH=/bin"
CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
]  # fmt: skip


def make_rootfs(directory: Path) -> Path:
    """A root file system with busybox and its applets."""
    root = directory / "rootfs"
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "root"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in (
        "sh", "true", "false", "cat", "echo", "sleep", "ls", "id", "tty", "stty", "kill", "yes", "head", "dd",
        "printf", "env", "seq", "wc", "ps", "md5sum", "mkfifo", "trap", "grep",
    ):  # fmt: skip
        os.link(root / "bin/busybox", root / "bin" / applet)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nbob:x:1000:\n")
    return root


def process(args: list[str], *, tty: bool = False) -> dict[str, Any]:
    """The spec's `process`."""
    sets = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    return {
        "terminal": tty,
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": [PATH, "TERM=xterm"],
        "cwd": "/",
        "capabilities": sets,
        "noNewPrivileges": False,
    }


def make_spec(
    container_id: str, args: list[str], *, tty: bool = False, parent: str = "/docker"
) -> dict[str, Any]:
    """A spec as the engine writes it for a usual container."""
    return {
        "ociVersion": "1.2.1",
        "process": process(args, tty=tty),
        "root": {"path": "rootfs"},
        "hostname": container_id[:12],
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "cgroupsPath": f"{parent}/{container_id}",
            "namespaces": [{"type": kind} for kind in ("mount", "network", "uts", "pid", "ipc")],
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/sys"],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }  # fmt: skip


class Bench:
    """A launcher with an exec root of its own, and what tests do with it."""

    def __init__(self, launcher: Launcher, config: LauncherConfig, rootfs: Path, work: Path) -> None:
        self.launcher = launcher
        self.config = config
        self.rootfs = rootfs
        self.work = work
        self.zygote = launcher._zygote

    def request(
        self,
        args: list[str],
        *,
        tty: bool = False,
        stdin: bool = False,
        once: bool = True,
        log: dict[str, Any] | None = None,
        **changes: Any,
    ) -> ContainerLaunch:
        """A launch of `args` on a fresh overlay of the busybox root."""
        identity = secrets.token_hex(32)
        upper, work = self.work / identity / "upper", self.work / identity / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        logging: LogConfig = {
            "driver": "json-file",
            "path": str(self.work / identity / "log"),
            "max_size": -1,
            "max_file": 1,
            "compress": False,
        }
        logging.update(log or {})  # type: ignore[typeddict-item]
        launch: dict[str, Any] = {
            "id": identity,
            "bundle": f"{self.config.exec_root}/shims/{identity}",
            "spec": make_spec(identity, args, tty=tty),
            "rootfs": [
                {
                    "destination": "/",
                    "type": "overlay",
                    "source": "overlay",
                    "options": [f"lowerdir={self.rootfs}", f"upperdir={upper}", f"workdir={work}"],
                }
            ],
            "stdio": {"tty": tty, "open_stdin": stdin, "stdin_once": once},
            "log": logging,
            "private_network": True,
            "init": False,
        }
        launch.update(changes)
        return launch  # type: ignore[return-value]

    async def launch(self, args: list[str], **how: Any) -> ShimHandle:
        return await self.launcher.launch(self.request(args, **how))

    async def output_of(self, args: list[str], **how: Any) -> tuple[int, bytes]:
        """Run to the end: exit code and raw output (frames unless a terminal)."""
        shim = await self.launch(args, **how)
        try:
            stream = await shim.attach(stdin=False, stdout=True, stderr=True)
            await shim.start()
            output = await read_all(stream)
            status = await shim.wait()
            return status.code, output
        finally:
            await shim.close()

    async def restart(self, *, kill_zygote: bool = False) -> None:
        """What an engine restart does to this side: every connection drops, a new launcher takes over."""
        if kill_zygote:
            os.kill(self.zygote.pid, 9)
        await self.launcher.close()
        self.zygote = await Zygote.start(PRELOAD)
        self.launcher = await Launcher.start(self.config, self.zygote)


async def read_all(stream: SocketStream) -> bytes:
    """Output up to its end; closes the stream."""
    parts = []
    while data := await stream.read():
        parts.append(data)
    await stream.close()
    return b"".join(parts)


def unframe(data: bytes) -> dict[int, bytes]:
    """Frames into stream number → bytes."""
    streams: dict[int, bytes] = {1: b"", 2: b""}
    at = 0
    while at < len(data):
        number, length = data[at], int.from_bytes(data[at + 4 : at + 8], "big")
        streams[number] += data[at + 8 : at + 8 + length]
        at += 8 + length
    return streams


def payload(data: bytes) -> bytes:
    """All frames' payload in order."""
    parts = []
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        parts.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(parts)


@contextlib.contextmanager
def exec_root() -> Iterator[str]:
    """A directory on the tmpfs where engines have theirs."""
    directory = tempfile.mkdtemp(prefix="sampan-test-", dir="/run")
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.asynccontextmanager
async def bench(rootfs: Path, work: Path, *, parked: int = 1) -> AsyncIterator[Bench]:
    """A running launcher; on the way out every container beneath its exec root is closed."""
    with exec_root() as root:
        config = LauncherConfig(exec_root=root, engine_id=secrets.token_hex(4), parked=parked)
        zygote = await Zygote.start(PRELOAD)
        made = Bench(await Launcher.start(config, zygote), config, rootfs, work)
        try:
            yield made
        finally:
            for handle in list(made.launcher._handles):
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(handle.close(), 10)
            # Containers that a failed restart left without a handle.
            for name in os.listdir(f"{root}/shims"):
                with contextlib.suppress(Exception):
                    left = await made.launcher.adopt(name)
                    if left is not None:
                        await asyncio.wait_for(left.close(), 10)
            await made.launcher.close()
