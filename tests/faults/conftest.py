"""Engines of one's own, as the integration tests have them, and a registry for what is pulled."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

import turns
from faults.points import points
from integration.conftest import busybox, make_engine, pytest_collection_modifyitems
from registry_peer import DockerRegistry

__all__ = ["busybox", "docker_registry", "make_engine", "pytest_collection_modifyitems"]


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    registry = DockerRegistry(tmp_path_factory.mktemp("registry"))
    registry.start()
    yield registry
    registry.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every named point is a test; with `--share`, one in so many of them."""
    if "point" in metafunc.fixturenames:
        metafunc.parametrize("point", turns.chosen(metafunc.config, points()))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=60, help="of kill -9 at random moments")
    parser.addoption(
        "--seed",
        type=int,
        default=random.randrange(1 << 20),
        help="of the random rounds; printed when they fail",
    )
