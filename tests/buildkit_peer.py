"""BuildKit's real clients, built from the Go module proxy once and kept: buildx with its version set (Compose refuses one without),
Compose, buildctl, and the frontend that Docker's frontend images hold."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from parity.peers import cache

BUILDX = ("github.com/docker/buildx", "v0.38.2")
BUILDKIT = ("github.com/moby/buildkit", "v0.33.0")
COMPOSE = ("github.com/docker/compose/v5", "v5.6.0")
"""The newest that Go 1.26.8 builds."""
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


def compose() -> Path:
    """The program."""
    module, version = COMPOSE
    flags = f"-s -w -X {module}/internal.Version={version}"
    return _of_module(COMPOSE, "cmd", cache() / f"compose-{version}" / "docker-compose", "-ldflags", flags)


def buildctl() -> Path:
    """The program."""
    return _of_buildkit("cmd/buildctl")


def dockerfile_frontend() -> Path:
    """The program of Docker's frontend images (`# syntax=docker/dockerfile:1`)."""
    return _of_buildkit("frontend/dockerfile/cmd/dockerfile-frontend")


def _of_buildkit(package: str) -> Path:
    _, version = BUILDKIT
    return _of_module(BUILDKIT, package, cache() / f"buildkit-{version}" / package.rpartition("/")[2])


def _of_module(module: tuple[str, str], package: str, target: Path, *flags: str) -> Path:
    """A program, built where its module was downloaded to: so its `replace`s count, which `go install` refuses."""
    if not target.exists():
        described = json.loads(_go("mod", "download", "-json", "@".join(module)))
        _go("build", "-C", described["Dir"], *flags, "-o", str(target), f"./{package}", CGO_ENABLED="0")
    return target


def docker_config(directory: Path) -> Path:
    """A configuration directory in which `docker buildx` is that program."""
    plugins = directory / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(buildx())
    return directory


def with_compose(directory: Path) -> Path:
    """The same, made by `docker_config`, with `docker compose`."""
    (directory / "cli-plugins" / "docker-compose").symlink_to(compose())
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
