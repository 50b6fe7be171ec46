"""Fixtures for tests with clients that are not ours: one engine on a Unix socket, one on TCP with TLS."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit_peer import docker_config, dockerfile_frontend
from busybox_image import busybox_archive
from certificates import Authority
from registry_peer import SampanRegistry
from running_engine import RunningEngine

PROGRAM_SECONDS = 300
"""A foreign program's limit, its build included (Maven fetches its plugins)."""
GO_BUILD_SECONDS = 1800
"""cosign and helm are hundreds of packages, compiled the first time."""

FRONTEND = """FROM scratch
LABEL moby.buildkit.frontend.network.none="true"
LABEL moby.buildkit.frontend.caps="moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts"
COPY dockerfile-frontend /bin/dockerfile-frontend
ENTRYPOINT ["/bin/dockerfile-frontend"]
"""

Play = Callable[..., str]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root: run as root (sudo bin/test clients)"))


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    with RunningEngine(tmp_path_factory.mktemp("engine")).holding(busybox_archive()) as running:
        yield running


@pytest.fixture
def engine(shared_engine: RunningEngine) -> Iterator[RunningEngine]:
    """A running engine that holds `busybox:latest` and nothing else."""
    yield shared_engine
    shared_engine.remove_everything()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of the tests' own."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def tls_engine(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[tuple[RunningEngine, str]]:
    """An engine that asks for client certificates on a TCP port, and its tcp:// address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    server = authority.issue("server", server=True)
    running = RunningEngine(
        tmp_path_factory.mktemp("tls-engine"),
        [
            *("-H", address, "--tlsverify", "--tlscacert", str(authority.certificate)),
            *("--tlscert", str(server / "cert.pem"), "--tlskey", str(server / "key.pem")),
        ],
    )
    with running.holding(busybox_archive()):
        yield running, address


@pytest.fixture
def play(engine: RunningEngine, tmp_path: Path) -> Play:
    """Run a program of another language against the engine; its output. Fails with what it said when it fails."""

    def run(*command: str, cwd: Path = tmp_path, **environment: str) -> str:
        if not shutil.which(command[0]):
            pytest.skip(f"{command[0]} is missing: install it to test this client")
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "DOCKER_HOST": engine.host, **environment},
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-4000:]
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{said}\n{engine.log[-2000:]}")
        return done.stdout

    return run


@pytest.fixture(scope="session")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return docker_config(tmp_path_factory.mktemp("docker-config"))


@pytest.fixture
def run(engine: RunningEngine, configuration: Path, tmp_path: Path) -> Run:
    """`docker …`, in the test's directory."""

    environment = {
        **os.environ,
        "DOCKER_HOST": engine.host,
        "DOCKER_CONFIG": str(configuration),
        "BUILDKIT_PROGRESS": "plain",
    }

    def docker(
        *arguments: str, fails: bool = False, input: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker", *arguments],
            env=environment,
            cwd=tmp_path,
            input=input.decode() if input is not None else None,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr + engine.log[-2000:]
        return done

    docker.environment = environment  # type: ignore[attr-defined]
    return docker


@pytest.fixture
def frontend_image(run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    """BuildKit's own Dockerfile frontend, as an image of the engine under a name that is not Docker's."""
    directory = tmp_path_factory.mktemp("frontend")
    shutil.copy(dockerfile_frontend(), directory)
    (directory / "Dockerfile").write_text(FRONTEND)
    run("buildx", "build", "--provenance=false", "-t", "foreign/frontend:1", str(directory))
    return "foreign/frontend:1"


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., None]:
    """Write files into the test's directory."""

    def write(**files: str) -> None:
        for name, content in files.items():
            (tmp_path / name).write_text(content)

    return write


@pytest.fixture
def built(tmp_path: Path) -> Callable[[str], str]:
    """Build a program from the Go module proxy; where it is."""

    def build(module: str) -> str:
        environment = {**os.environ, "GOBIN": str(tmp_path / "bin"), "CGO_ENABLED": "0"}
        done = subprocess.run(
            ["go", "install", module],
            env=environment,
            capture_output=True,
            text=True,
            timeout=GO_BUILD_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return str(tmp_path / "bin" / module.rpartition("/")[2].partition("@")[0])

    return build


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampanRegistry]:
    registry = SampanRegistry(tmp_path_factory.mktemp("registry"))
    registry.start()
    yield registry
    registry.stop()
