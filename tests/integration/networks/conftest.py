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


def _bridges_and_tables() -> tuple[str, str]:
    links = subprocess.run(
        ["ip", "-o", "link", "show", "type", "bridge"], capture_output=True, text=True, check=True
    )
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    return "\n".join(line.split(":")[1] for line in links.stdout.splitlines()), rules.stdout


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Bridges and rules after the test are those before it (of engines that stand below this test's directory)."""
    before = _bridges_and_tables()
    yield
    after = _bridges_and_tables()
    assert after[0].split() == [name for name in after[0].split() if name in before[0].split()]
    assert [line for line in after[1].splitlines() if line.startswith("table inet sampan-")] == [
        line
        for line in after[1].splitlines()
        if line.startswith("table inet sampan-") and line in before[1].splitlines()
    ]
