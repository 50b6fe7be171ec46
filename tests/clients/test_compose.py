"""`docker compose`, as its makers build it: services that are built from Dockerfiles."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit_peer import BUILD_SECONDS, docker_config, with_compose
from running_engine import RunningEngine

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * BUILD_SECONDS)]

Compose = Callable[..., "subprocess.CompletedProcess[str]"]

PROJECT = """
name: trial
services:
  base:
    build:
      context: ./base
      dockerfile_inline: |
        FROM busybox
        COPY word /base
    image: trial-base
  app:
    build:
      context: ./app
      dockerfile: Dockerfile.app
      target: second
      args:
        WHO: reader
      labels:
        made.by: compose
      secrets: [token]
      additional_contexts:
        below: service:base
        docs: ./docs
      tags: [trial-app:extra]
    image: trial-app
    network_mode: none
    command: [cat, /app]
secrets:
  token:
    file: ./token
"""

DOCKERFILE = """FROM below AS first
ARG WHO
COPY --from=docs page /page
RUN --mount=type=secret,id=token cat /base /page > /app && echo " $WHO $(wc -c < /run/secrets/token)" >> /app
FROM first AS second
ENV STAGE=second
FROM first AS third
RUN exit 9
"""


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_compose(docker_config(tmp_path_factory.mktemp("docker-config")))


@pytest.fixture
def compose(engine: RunningEngine, configuration: Path, tmp_path: Path) -> Iterator[Compose]:
    """`docker compose …` of the project in the test's directory, which is taken down at the end."""
    environment = {
        **os.environ,
        "DOCKER_HOST": engine.host,
        "DOCKER_CONFIG": str(configuration),
        "BUILDKIT_PROGRESS": "plain",
    }

    def run(*arguments: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker", "compose", *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr + engine.log[-2000:]
        return done

    yield run
    run("down", "--timeout", "0")


def _write(tmp_path: Path) -> None:
    files = {
        "compose.yaml": PROJECT,
        "token": "t" * 21,
        "base/word": "words",
        "app/Dockerfile.app": DOCKERFILE,
        "docs/page": " and pages",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)


def test_services_are_built(compose: Compose, engine: RunningEngine, tmp_path: Path) -> None:
    _write(tmp_path)
    compose("build")
    for name in ("trial-app", "trial-app:extra"):
        shown = engine.docker("run", "--rm", "--net", "none", name, "sh", "-c", "cat /app; echo $STAGE")
        assert shown.stdout == "words and pages reader 21\nsecond\n"
    labels = engine.docker("image", "inspect", "trial-app", "-f", '{{index .Config.Labels "made.by"}}')
    assert labels.stdout == "compose\n"
    assert "CACHED" in compose("build", "app").stdout


def test_a_mistake_is_told(compose: Compose, tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "app" / "Dockerfile.app").write_text("FROM below AS second\nRUN echo said; exit 7\n")
    said = compose("build", "app", fails=True).stderr
    assert "said" in said and "did not complete successfully: exit code: 7" in said


def test_a_project_is_built_and_started(compose: Compose, tmp_path: Path) -> None:
    _write(tmp_path)
    started = compose("up", "--build", "--no-color", "--no-log-prefix", "app")
    assert "words and pages reader 21" in started.stdout
    (tmp_path / "docs" / "page").write_text(" and news")
    started = compose("up", "--build", "--no-color", "--no-log-prefix", "app")
    assert "words and news reader 21" in started.stdout
