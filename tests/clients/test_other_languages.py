"""Programs on Docker clients of other languages, each in its own folder with its pinned dependencies."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from clients.conftest import PROGRAM_SECONDS, Play

HERE = Path(__file__).parent
TESTCONTAINERS = "testcontainers==4.15.0"

pytestmark = [pytest.mark.root, pytest.mark.timeout(PROGRAM_SECONDS)]


def steps(output: str) -> list[str]:
    """The steps that a program says it did; Maven colours even a quiet output."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    return [line.removeprefix("ok ") for line in plain.splitlines() if line.startswith("ok ")]


def test_go(play: Play, tmp_path: Path) -> None:
    """github.com/moby/moby/client, the one in Docker's own CLI."""
    play("go", "build", "-o", str(tmp_path / "program"), ".", cwd=HERE / "go")
    assert len(steps(play(str(tmp_path / "program")))) == 9


def test_node(play: Play, tmp_path: Path) -> None:
    """dockerode."""
    shutil.copytree(HERE / "node", tmp_path / "node")
    play("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", cwd=tmp_path / "node")
    assert len(steps(play("node", "scenario.js", cwd=tmp_path / "node"))) == 9


def test_testcontainers(play: Play, tmp_path: Path) -> None:
    """Testcontainers for Python."""
    environment = tmp_path / "environment"
    play(sys.executable, "-m", "venv", str(environment))
    python = str(environment / "bin/python")
    play(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TESTCONTAINERS)
    out = play(python, str(HERE / "python/testcontainers_scenario.py"), TESTCONTAINERS_RYUK_DISABLED="true")
    assert len(steps(out)) == 3


def test_java(play: Play, tmp_path: Path) -> None:
    """docker-java."""
    shutil.copytree(HERE / "java", tmp_path / "java")
    out = play("mvn", "--batch-mode", "--quiet", "compile", "exec:java", cwd=tmp_path / "java")
    assert len(steps(out)) == 5
