"""Fixtures: Debian's docker-registry, image engines to pull and push with, and an image to send."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image_archives import Layout, tar
from image_engine import ImageEngine
from registry_peer import DockerRegistry
from sampan.registry.settings import RegistrySettings

HTPASSWD = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
"""User `me`, password `secret`."""


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_skopeo() -> Iterator[None]:
    """Skopeo and podman remember blobs there when root runs them, wherever else their state is told to be."""
    directory = Path("/var/lib/containers")
    known = directory.exists()
    yield
    if not known:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def make_registry(tmp_path: Path) -> Iterator[Callable[..., DockerRegistry]]:
    """Start registries of one's own: `make_registry({"REGISTRY_…": "…"})`."""
    started: list[DockerRegistry] = []

    def start(environment: dict[str, str] | None = None) -> DockerRegistry:
        registry = DockerRegistry(tmp_path / f"registry{len(started)}", environment)
        started.append(registry)
        registry.start()
        return registry

    yield start
    for registry in started:
        registry.stop()


@pytest.fixture
def docker_registry(make_registry: Callable[..., DockerRegistry]) -> DockerRegistry:
    return make_registry()


@pytest.fixture
def locked_registry(make_registry: Callable[..., DockerRegistry], tmp_path: Path) -> DockerRegistry:
    """A registry that wants a name and a password: `me`, `secret`."""
    passwords = tmp_path / "htpasswd"
    passwords.write_text(HTPASSWD)
    return make_registry(
        {
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "test",
            "REGISTRY_AUTH_HTPASSWD_PATH": str(passwords),
        }
    )


@pytest.fixture
def make_image_engine(tmp_path: Path) -> Iterator[Callable[..., ImageEngine]]:
    """Start image engines of one's own: `make_image_engine(RegistrySettings(…))`."""
    started: list[ImageEngine] = []

    def start(settings: RegistrySettings | None = None) -> ImageEngine:
        engine = ImageEngine(tmp_path / f"engine{len(started)}", registry=settings)
        engine.start()
        started.append(engine)
        return engine

    yield start
    for engine in started:
        engine.close()


@pytest.fixture(scope="session")
def image() -> bytes:
    """An archive of `source:1`, an image of three layers, one of which is some megabytes long."""
    layout = Layout()
    noise = bytes(range(256)) * 8192 * 2
    layers = [tar({"big": noise}), tar({"small": b"s"}), tar({"top": b"t"})]
    layout.name(layout.image(layers), "docker.io/library/source:1")
    return layout.archive()
