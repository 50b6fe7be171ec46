"""One busybox root for all tests of the process model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from .containers import Bench, bench, make_rootfs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rootfs(tmp_path_factory.mktemp("busybox"))


@pytest.fixture
def run(rootfs: Path, tmp_path: Path) -> Callable[[Any], None]:
    """Runs a scenario on a launcher of its own, and holds it to a time."""

    def runner(scenario: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            async with bench(rootfs, tmp_path) as made:
                await asyncio.wait_for(scenario(made), 60)

        asyncio.run(main())

    return runner
