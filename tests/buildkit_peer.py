"""BuildKit's real clients, built from the Go module proxy once and kept: buildx with its version set (Compose refuses one without),
buildctl, and the frontend that Docker's frontend images hold."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from parity.peers import cache

BUILDX = ("github.com/docker/buildx", "v0.38.2")
BUILDKIT = ("github.com/moby/buildkit", "v0.33.0")
BUILD_SECONDS = 1200
"""A cold build of either, on a small machine."""


def buildx() -> Path:
    """The program."""
    module, version = BUILDX
    target = cache() / f"buildx-{version}" / "buildx"
    if not target.exists():
        flags = f"-X {module}/version.Version={version}"
        _go("install", "-ldflags", flags, f"{module}/cmd/buildx@{version}", GOBIN=str(target.parent))
    return target


def buildctl() -> Path:
    """The program."""
    return _of_buildkit("cmd/buildctl")


def dockerfile_frontend() -> Path:
    """The program of Docker's frontend images (`# syntax=docker/dockerfile:1`)."""
    return _of_buildkit("frontend/dockerfile/cmd/dockerfile-frontend")


def _of_buildkit(package: str) -> Path:
    """A program of BuildKit's module, which has `replace`s: it is built where the module was downloaded to."""
    module, version = BUILDKIT
    target = cache() / f"buildkit-{version}" / package.rpartition("/")[2]
    if not target.exists():
        described = json.loads(_go("mod", "download", "-json", f"{module}@{version}"))
        _go("build", "-C", described["Dir"], "-o", str(target), f"./{package}", CGO_ENABLED="0")
    return target


def docker_config(directory: Path) -> Path:
    """A configuration directory in which `docker buildx` is that program."""
    plugins = directory / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(buildx())
    return directory


def _go(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        ["go", *arguments],
        env={**os.environ, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"go {' '.join(arguments)}: {done.stderr[-3000:]}"
    return done.stdout
