"""What the builder says about itself. There is one worker: the engine."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING

from sampan.buildkit.protos import worker_pb2
from sampan.llb import ops_pb2
from sampan.names.platform import Platform
from sampan.ops.emulation import runnable
from sampan.version import __version__

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

SPOKEN = "v0.33.0"
"""The BuildKit whose protocol is spoken; clients compare it with what they need."""

DOCKERFILE = f"1.27.0+sampan.{__version__}"
"""The frontend for Dockerfiles, in the numbers of Docker's own that came with that BuildKit."""

_LABEL = "org.mobyproject.buildkit.worker."


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
        platforms=[as_message(each) for each in await asyncio.to_thread(runnable)],
        BuildkitVersion=version(),
    )


def as_message(platform: Platform) -> ops_pb2.Platform:
    """As it stands in a definition."""
    return ops_pb2.Platform(
        OS=platform.os,
        Architecture=platform.architecture,
        Variant=platform.variant,
        OSVersion=platform.os_version,
    )


def _dotted(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z.-]", ".", text)
