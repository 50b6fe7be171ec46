"""Engines of one's own, as the integration tests have them, and a registry for what is pulled."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator

import pytest

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
    """Every named point is a test; with `--share`, one in so many of them, others with each commit."""
    if "point" not in metafunc.fixturenames:
        return
    share = metafunc.config.getoption("--share")
    turn = 0
    if share > 1:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        ).stdout
        turn = int(head.strip() or "0", 16) % share
    metafunc.parametrize("point", points()[turn::share])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", type=int, default=1, help="run one in so many of the named points")
    parser.addoption("--rounds", type=int, default=60, help="of kill -9 at random moments")
    parser.addoption(
        "--seed",
        type=int,
        default=random.randrange(1 << 20),
        help="of the random rounds; printed when they fail",
    )
