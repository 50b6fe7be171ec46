"""Build checks and `--call` through the real buildx, against the builder's own frontend and the real one as an image."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from buildkit_peer import BUILD_SECONDS
from running_engine import RunningEngine

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * BUILD_SECONDS)]

SECONDS = 120
DOCKERFILE = """# check={check}
# VERSION what is built
ARG VERSION=1
FROM busybox as Base
MAINTAINER me
ARG API_TOKEN
ENV a $NOTHING
# app is run
FROM base AS app
RUN --mount=type=secret,id=key true
CMD echo hello
"""
CALLS = (
    ("--check",),
    ("--call=check,format=json",),
    ("--call=outline",),
    ("--call=outline,format=json", "--build-arg", "API_TOKEN=x"),
    ("--call=targets",),
    ("--call=targets,format=json",),
    ("--call=subrequests.describe",),
)


class Buildx:
    """`docker buildx build …` in a directory: its exit status and what it prints."""

    def __init__(self, engine: RunningEngine, configuration: Path, directory: Path) -> None:
        self.directory = directory
        self._environment = {
            **os.environ,
            "DOCKER_HOST": engine.host,
            "DOCKER_CONFIG": str(configuration),
            "BUILDKIT_PROGRESS": "plain",
        }

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "buildx", "build", "--provenance=false", *arguments, "."],
            env=self._environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def write(self, text: str) -> None:
        (self.directory / "Dockerfile").write_text(text)


@pytest.fixture
def buildx(engine: RunningEngine, configuration: Path, tmp_path: Path) -> Buildx:
    return Buildx(engine, configuration, tmp_path)


@pytest.fixture
def foreign(frontend_image: str) -> str:
    """The build argument that asks for the real frontend."""
    return f"BUILDKIT_SYNTAX={frontend_image}"


def test_calls_are_answered_as_the_real_frontend_does(buildx: Buildx, foreign: str) -> None:
    def compare(*words: str) -> None:
        ours, theirs = buildx(*words), buildx(*words, "--build-arg", foreign)
        assert ours.returncode == theirs.returncode, words
        assert _without_graph(ours.stdout) == _without_graph(theirs.stdout), words
        assert _warnings(ours.stderr) == _warnings(theirs.stderr), words

    buildx.write(DOCKERFILE.format(check="error=false"))
    for call in CALLS:
        compare(*call)
    ours, theirs = buildx("--call=nothing"), buildx("--call=nothing", "--build-arg", foreign)
    assert "unsupported request frontend.nothing" in ours.stderr
    assert ours.stderr.splitlines()[-1] == theirs.stderr.splitlines()[-1]
    buildx.write(DOCKERFILE.format(check="error=true"))
    compare("--check")
    compare("--call=outline")


def _without_graph(text: str) -> str:
    """Which operations bring the Dockerfile is the builder's own."""
    if not text.startswith("{"):
        return text
    told = json.loads(text)
    for source in told.get("sources", ()):
        if isinstance(source, dict):
            source.pop("definition", None)
    return json.dumps(told)


def test_a_build_warns_and_fails_as_with_the_real_frontend(buildx: Buildx, foreign: str) -> None:
    buildx.write(DOCKERFILE.format(check="error=false"))
    ours, theirs = buildx(), buildx("--build-arg", foreign)
    assert ours.returncode == theirs.returncode == 0, ours.stderr
    found = _warnings(ours.stderr)
    assert found == _warnings(theirs.stderr)
    assert len(found) == 8, ours.stderr
    assert " - JSONArgsRecommended: JSON arguments recommended for CMD" in found[-1]
    buildx.write(DOCKERFILE.format(check="error=true"))
    failed = buildx()
    assert failed.returncode and "lint violation found for rules: StageNameCasing" in failed.stderr


def _warnings(text: str) -> list[str]:
    """The last thing that is printed of a build that went well; of another the error follows."""
    _, found, rest = text.partition(" warnings found")
    return (found + rest).partition("\nERROR")[0].rstrip().splitlines()
