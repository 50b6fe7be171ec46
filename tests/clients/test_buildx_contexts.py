"""Contexts that are no directory of the client's, with `docker buildx`: OCI layouts, archives and Dockerfiles of the web."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit_peer import BUILD_SECONDS
from running_engine import RunningEngine
from web_server import served

pytestmark = [pytest.mark.root, pytest.mark.timeout(2 * BUILD_SECONDS)]

Buildx = Callable[..., str]


@pytest.fixture
def buildx(engine: RunningEngine, configuration: Path, tmp_path: Path) -> Buildx:
    """`docker buildx …` in the test's directory; what it said."""

    def run(*arguments: str, fails: bool = False) -> str:
        environment = {"DOCKER_HOST": engine.host, "DOCKER_CONFIG": str(configuration)}
        done = subprocess.run(
            ["docker", "buildx", *arguments],
            env={**os.environ, **environment, "BUILDKIT_PROGRESS": "plain"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr + engine.log[-2000:]
        return done.stderr

    return run


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The test's directory `web`, served."""
    with served(tmp_path / "web") as url:
        yield url


def _shown(engine: RunningEngine, image: str, script: str) -> str:
    return engine.docker("run", "--rm", "--net", "none", image, "sh", "-c", script).stdout


def test_an_oci_layout(buildx: Buildx, engine: RunningEngine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo laid out > /base\nENV LAID=out\n")
    buildx("build", "-t", "laid:v1", "-o", "type=oci,dest=layout.tar", ".")
    with tarfile.open(tmp_path / "layout.tar") as archive:
        archive.extractall(tmp_path / "layout", filter="data")
    engine.docker("builder", "prune", "-af")
    dockerfile = "FROM laid AS one\nRUN echo $LAID > /env\nFROM busybox\nCOPY --from=one /env /\nCOPY --from=laid /base /\n"
    (tmp_path / "Dockerfile").write_text(dockerfile)
    said = buildx("build", "-t", "built", "--build-context", "laid=oci-layout://layout:v1", ".")
    assert "[context laid] OCI load from client" in said
    assert _shown(engine, "built", "cat /base /env") == "laid out\nout\n"
    digest = "sha256:" + "0" * 64
    said = buildx("build", "--build-context", f"laid=oci-layout://layout@{digest}", ".", fails=True)
    assert "not found" in said


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
def test_an_archive_of_the_web(
    buildx: Buildx, engine: RunningEngine, tmp_path: Path, web: str, kind: str
) -> None:
    with tarfile.open(tmp_path / "web" / "context", f"w:{kind}") as archive:
        for name, text in (("Other", f"FROM busybox\nCOPY word /\n#{kind}\n"), ("word", "of the web")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    buildx("build", "-t", "built", "-f", "Other", f"{web}/context")
    assert _shown(engine, "built", "cat /word") == "of the web"


def test_a_dockerfile_of_the_web(buildx: Buildx, engine: RunningEngine, tmp_path: Path, web: str) -> None:
    (tmp_path / "web" / "Made").write_text("FROM busybox\nRUN echo alone > /alone\n")
    buildx("build", "-t", "built", f"{web}/Made")
    assert _shown(engine, "built", "cat /alone") == "alone\n"
    (tmp_path / "word").write_text("beside it")
    (tmp_path / "web" / "With").write_text("FROM busybox\nCOPY word /\n")
    buildx("build", "-t", "built", "-f", f"{web}/With", ".")
    assert _shown(engine, "built", "cat /word") == "beside it"
    assert "404" in buildx("build", f"{web}/Missing", fails=True)


def test_named_contexts(buildx: Buildx, engine: RunningEngine, tmp_path: Path, web: str) -> None:
    """What a directory's own ignore file names stays; an image's place is taken by any of its names."""
    (tmp_path / "docs").mkdir()
    for name in ("kept", "left"):
        (tmp_path / "docs" / name).write_text(name)
    (tmp_path / "docs" / ".dockerignore").write_text("left\n")
    (tmp_path / "web" / "file").write_text("fetched\n")
    (tmp_path / "Dockerfile").write_text(
        "FROM example.org/never:latest\nCOPY --from=docs . /docs/\nCOPY --from=file context /fetched\n"
    )
    buildx(
        *("build", "-t", "built", "--build-context", "docs=docs", "--build-context", f"file={web}/file"),
        *("--build-context", "example.org/never=docker-image://busybox", "."),
    )
    assert _shown(engine, "built", "ls /docs; cat /fetched") == "kept\nfetched\n"
