"""Fixtures: Sampan's registry and Debian's in the same place, and image engines to push and pull with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.registry.conftest import HTPASSWD, image, make_image_engine, no_cache_of_skopeo
from registry_peer import DockerRegistry, SampanRegistry

__all__ = ["HTPASSWD", "image", "make_image_engine", "no_cache_of_skopeo"]

MakeServer = Callable[..., SampanRegistry]


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Start Sampan registries of one's own: `make_server({"REGISTRY_…": "…"})`."""
    started: list[DockerRegistry] = []

    def start(environment: dict[str, str] | None = None) -> SampanRegistry:
        server = SampanRegistry(tmp_path / f"server{len(started)}", environment)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def server(make_server: MakeServer) -> SampanRegistry:
    return make_server()
