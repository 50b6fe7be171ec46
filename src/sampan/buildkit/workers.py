"""What the builder says about itself. There is one worker: the engine."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.buildkit.protos import worker_pb2
from sampan.llb import ops_pb2
from sampan.names.platform import Platform, local, parse, runnable_on
from sampan.version import __version__

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

SPOKEN = "v0.33.0"
"""The BuildKit whose protocol is spoken; clients compare it with what they need."""

_LABEL = "org.mobyproject.buildkit.worker."
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_EMULATED = {
    "aarch64": "linux/arm64",
    "arm": "linux/arm/v7",
    "i386": "linux/386",
    "loongarch64": "linux/loong64",
    "mips64": "linux/mips64",
    "mips64el": "linux/mips64le",
    "ppc64le": "linux/ppc64le",
    "riscv64": "linux/riscv64",
    "s390x": "linux/s390x",
    "x86_64": "linux/amd64",
}
"""By the names that Debian's qemu-user-static registers (`qemu-aarch64`)."""


def version() -> worker_pb2.BuildkitVersion:
    """Ours, in BuildKit's numbers: what follows the `+` does not count when versions are compared."""
    return worker_pb2.BuildkitVersion(
        package="sampan", version=f"{SPOKEN}+sampan.{_dotted(__version__)}", revision=__version__
    )


async def worker(engine: Engine) -> worker_pb2.WorkerRecord:
    """The engine as a worker. By `snapshotter` buildx knows that images are kept as containerd keeps them, which
    multi-platform results, OCI output and the export of cache hang on."""
    return worker_pb2.WorkerRecord(
        ID=engine.id,
        Labels={
            _LABEL + "executor": "sampan",
            _LABEL + "hostname": socket.gethostname(),
            _LABEL + "network": "host",
            _LABEL + "selinux.enabled": "false",
            _LABEL + "snapshotter": engine.snapshots.name,
        },
        platforms=[as_message(each) for each in platforms()],
        BuildkitVersion=version(),
    )


def platforms() -> list[Platform]:
    """Whose programs run here: this machine's, and those with an emulator in the kernel's table."""
    found = runnable_on(local())
    try:
        names = sorted(os.listdir(_BINFMT))
    except OSError:
        names = []
    for name in names:
        emulated = _EMULATED.get(name.removeprefix("qemu-"))
        if emulated and name.startswith("qemu-") and _enabled(_BINFMT / name):
            found += runnable_on(parse(emulated))
    return list(dict.fromkeys(found))


def as_message(platform: Platform) -> ops_pb2.Platform:
    """As it stands in a definition."""
    return ops_pb2.Platform(
        OS=platform.os,
        Architecture=platform.architecture,
        Variant=platform.variant,
        OSVersion=platform.os_version,
    )


def _enabled(entry: Path) -> bool:
    try:
        return entry.read_text().startswith("enabled")
    except OSError:
        return False


def _dotted(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z.-]", ".", text)
