"""A full disk under the content store: an error, nothing lost, and work goes on once there is room."""

import asyncio
import os
from pathlib import Path

import pytest

from sampan.content.local import LocalContentStore
from sampan.content.schema import CONTENT_SCHEMA
from sampan.errors import SystemFailure
from sampan.linux.mount import new_filesystem
from sampan.store import Database

pytestmark = pytest.mark.root


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    async def scenario(disk: Path) -> None:
        database = await Database.open(tmp_path / "db", [CONTENT_SCHEMA])
        store = await LocalContentStore.start(database, disk / "content")
        async with store.leases.hold("test") as lease:
            kept = await store.put(b"kept" * 1000, lease=lease)
            ingest = await store.ingest("big", lease=lease)
            assert ingest is not None
            with pytest.raises(SystemFailure, match="no space left on device"):
                async with ingest:
                    for _ in range(8):
                        await ingest.write(os.urandom(1 << 20))
            assert await store.read(kept.digest) == b"kept" * 1000
            with pytest.raises(SystemFailure, match="no space left on device"):
                await store.put(os.urandom(1 << 20), lease=lease)
            resumed = await store.ingest("big", lease=lease)
            assert resumed is not None
            assert 0 < resumed.offset < 4 << 20
            await resumed.abort()
            assert (await store.put(os.urandom(1 << 20), lease=lease)).size == 1 << 20
        await database.close()

    small = new_filesystem("tmpfs", {"size": str(4 << 20)})
    try:
        asyncio.run(scenario(Path(f"/proc/self/fd/{small}")))
    finally:
        os.close(small)
