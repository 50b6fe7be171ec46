"""Who builds: an engine and the client that it is asked with. Each build is timed, and costs processor time, which is measured too:
on a machine that others use it says more than the clock."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks import contestants, processes
from benchmarks.contestants import Contestant
from buildkit_peer import buildx

_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "BUILDX_", "PYTHON"))
}
_SECONDS = 600


class Sample(NamedTuple):
    """What a build has taken."""

    milliseconds: float
    engine: float
    """Processor time in milliseconds of the engine and what it has started, that of steps' programs included."""


class Builder:
    """An engine with a client. `name` is its column's."""

    def __init__(
        self, name: str, engine: Contestant, client: list[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.engine = engine
        self._client = client
        self._environment = {**_ENVIRONMENT, **(environment or {})}

    def build(self, directory: Path, *arguments: str, host: str = "") -> Sample:
        """Build and name the result `built`; `host` is where the engine is asked, if not at its own socket.

        Raises SystemExit with what the client said.
        """
        command = [*self._client, "-t", "built", *arguments, str(directory)]
        before = processes.tree_cpu_seconds(self.engine.pid)
        began = time.perf_counter()
        done = subprocess.run(
            command,
            env={**self._environment, "DOCKER_HOST": host or self.engine.host},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        took = time.perf_counter() - began
        if done.returncode != 0:
            raise SystemExit(f"{self.name}: {' '.join(command)}:\n{done.stderr.decode()[-3000:]}")
        used = processes.tree_cpu_seconds(self.engine.pid) - before
        return Sample(took * 1e3, used * 1e3)


class Builders(NamedTuple):
    """All of a run. Every engine knows the base image."""

    dockerd: Builder
    sampan: Builder
    """With buildx, as dockerd."""
    own: Builder
    """`sampan build`, on an engine of its own: the other one would have everything from the cache."""
    floor: Builder
    """buildx with the stub."""
    docker_io: Builder
    """Debian's classic builder."""
    classic: Builder
    """Sampan's, with the same client."""


@contextlib.contextmanager
def all_of_them(base: Path) -> Iterator[Builders]:
    """Four engines and the stub; they end with the block, and nothing of them is left. `base` is an archive of the base image."""
    with ExitStack() as stack:
        settings = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        environment = {"DOCKER_CONFIG": str(settings), "BUILDX_CONFIG": str(settings)}
        sampan = stack.enter_context(contestants.sampan())
        with_buildx = [str(buildx()), "build"]
        old = ["docker", "build"]
        old_environment = {**environment, "DOCKER_BUILDKIT": "0"}
        docker_io = stack.enter_context(contestants.docker("docker.io"))
        builders = Builders(
            dockerd=Builder(
                "dockerd", stack.enter_context(contestants.docker("dockerd")), with_buildx, environment
            ),
            sampan=Builder("Sampan", sampan, with_buildx, environment),
            own=Builder(
                "sampan build",
                stack.enter_context(contestants.sampan()),
                [_sampan(), "build"],
                environment,
            ),
            floor=Builder(
                "floor",
                stack.enter_context(contestants.floor("benchmarks.build.stub")),
                with_buildx,
                environment,
            ),
            docker_io=Builder("docker.io", docker_io, old, old_environment),
            classic=Builder("Sampan, classic", sampan, old, old_environment),
        )
        for builder in (builders.dockerd, builders.sampan, builders.own, builders.docker_io):
            builder.engine.docker("load", "-i", str(base))
        yield builders


def _sampan() -> str:
    program = Path(sys.executable).with_name("sampan")
    return str(program) if program.exists() else shutil.which("sampan") or "sampan"
