"""A network service of the test's own, namespaces as containers, and the promise that nothing is left."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from network_sandboxes import Namespace
from sampan.events import EventBus
from sampan.networks.model import SCHEMA
from sampan.networks.options import NetworkOptions
from sampan.networks.service import NetworkService
from sampan.store import Database

ServiceMaker = Callable[..., AbstractAsyncContextManager[NetworkService]]


@pytest.fixture
def service(tmp_path: Path) -> ServiceMaker:
    """`async with service() as networks:`; options as keywords, `root` names the engine."""

    @asynccontextmanager
    async def make(root: str = "engine", **options: object) -> AsyncIterator[NetworkService]:
        directory = tmp_path / root
        directory.mkdir(exist_ok=True)
        database = await Database.open(directory / "db", [SCHEMA])
        networks = await NetworkService.open(
            database,
            EventBus(),
            NetworkOptions(data_root=directory, **options),  # type: ignore[arg-type]
        )
        await networks.restore([])
        try:
            yield networks
        finally:
            for container in list(networks._attachments):
                await networks.forget(container)
            for network in list(networks._catalog.all()):
                if network.name not in ("bridge", "host", "none"):
                    await networks.remove(network.name)
            await networks.close()
            await database.close()

    return make


@pytest.fixture
def namespace() -> Iterator[Callable[[], Namespace]]:
    """Makes network namespaces, removed after the test."""
    made: list[Namespace] = []

    def make() -> Namespace:
        made.append(Namespace())
        return made[-1]

    yield make
    for each in made:
        each.close()


def _marked(marks: set[str]) -> list[str]:
    """Links and tables of the engines with these marks; the machine may have others."""
    links = subprocess.run(["ip", "-d", "-o", "link", "show"], capture_output=True, text=True, check=True)
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    lines = [*links.stdout.splitlines(), *tables.stdout.splitlines()]
    return [line for line in lines if any(f"sampan-{mark}" in line for mark in marks)]


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """No link and no table of an engine that had its state below this test's directory."""
    yield
    roots = [tmp_path, *(entry for entry in tmp_path.iterdir() if entry.is_dir())]
    assert _marked({NetworkOptions(data_root=root).mark for root in roots}) == []
