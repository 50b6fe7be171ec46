"""`docker build --cache-from` with the classic builder, as dockerd's takes steps from images."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from running_engine import RunningEngine

pytestmark = pytest.mark.root

RANDOM = "RUN head -c 16 /dev/urandom | md5sum > /random\n"
DOCKERFILE = f"FROM busybox\nENV A=b\nCOPY word /\n{RANDOM}LABEL last=step\n"


def build(engine: RunningEngine, directory: Path, tag: str, dockerfile: str, *cache: str) -> int:
    """How many steps were taken from somewhere."""
    (directory / "Dockerfile").write_text(dockerfile)
    (directory / "word").write_text("copied")
    flags = [word for name in cache for word in ("--cache-from", name)]
    done = subprocess.run(
        ["docker", "-H", engine.host, "build", "-t", tag, *flags, str(directory)],
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + engine.log[-2000:]
    return done.stdout.count(" ---> Using cache\n")


def id_of(engine: RunningEngine, tag: str) -> str:
    return str(json.loads(engine.docker("image", "inspect", tag).stdout)[0]["Id"])


def shown(engine: RunningEngine, tag: str, path: str) -> str:
    return engine.docker("run", "--rm", "--net", "none", tag, "cat", path).stdout


def test_an_image_that_was_brought_here_gives_its_steps(engine: RunningEngine, tmp_path: Path) -> None:
    build(engine, tmp_path, "first", DOCKERFILE)
    random, id = shown(engine, "first", "/random"), id_of(engine, "first")
    engine.docker("save", "-o", str(tmp_path / "first.tar"), "first")
    engine.docker("rmi", "first")
    engine.docker("load", "-i", str(tmp_path / "first.tar"))
    assert build(engine, tmp_path, "again", DOCKERFILE, "nowhere:1", "first") == 4
    assert id_of(engine, "again") == id
    engine.docker("rmi", "again")
    assert build(engine, tmp_path, "again", DOCKERFILE + "RUN true\n", "first") == 4
    assert shown(engine, "again", "/random") == random


def test_a_part_of_an_image_is_taken(engine: RunningEngine, tmp_path: Path) -> None:
    build(engine, tmp_path, "first", DOCKERFILE)
    random = shown(engine, "first", "/random")
    engine.docker("builder", "prune", "-af")
    other = DOCKERFILE.replace("last=step", "other=step") + "ENV C=d\n"
    assert build(engine, tmp_path, "second", other, "first") == 3
    assert shown(engine, "second", "/random") == random and shown(engine, "second", "/word") == "copied"
    config = json.loads(engine.docker("image", "inspect", "second").stdout)[0]["Config"]
    assert config["Labels"] == {"other": "step"} and {"A=b", "C=d"} <= set(config["Env"])


def test_what_was_built_here_counts_only_if_one_of_them_stands_on_it(
    engine: RunningEngine, tmp_path: Path
) -> None:
    build(engine, tmp_path, "first", DOCKERFILE)
    build(engine, tmp_path, "unlike", "FROM busybox\nENV X=y\n")
    assert build(engine, tmp_path, "second", DOCKERFILE) == 4
    assert build(engine, tmp_path, "second", DOCKERFILE, "unlike") == 0
    assert build(engine, tmp_path, "third", DOCKERFILE, "nowhere:1") == 0
