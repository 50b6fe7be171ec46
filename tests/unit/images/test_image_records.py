"""The table of images: what a name's move leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from sampan.images.lineage import Lineage
from sampan.images.listing import repository_names
from sampan.images.records import IMAGES_SCHEMA, LABEL_PARENT, ImageRecords, dangling_name
from sampan.oci.image import OCI_MANIFEST, Descriptor
from sampan.store import Database

BUSYBOX = "docker.io/library/busybox:latest"


def target(number: int) -> Descriptor:
    return Descriptor(media_type=OCI_MANIFEST, digest=f"sha256:{number:064x}", size=1)


def with_records(path: Path, work: Callable[[ImageRecords], Awaitable[None]]) -> None:
    async def run() -> None:
        database = await Database.open(path / "db", [IMAGES_SCHEMA])
        try:
            await work(ImageRecords(database))
        finally:
            await database.close()

    asyncio.run(run())


def test_a_moved_name_leaves_a_dangling_image_until_it_has_a_name_again(tmp_path: Path) -> None:
    async def work(records: ImageRecords) -> None:
        await records.put(BUSYBOX, target(1), {"a": "1"})
        replaced = await records.put(BUSYBOX, target(2))
        assert replaced.previous is not None and replaced.previous.id == target(1).digest
        (left,) = await records.of(target(1).digest)
        assert left.is_dangling and left.labels == {"a": "1"} and left.target == target(1)
        await records.put("docker.io/library/old:1", target(1))
        assert [each.name for each in await records.all()] == [BUSYBOX, "docker.io/library/old:1"]

    with_records(tmp_path, work)


def test_a_moved_name_leaves_nothing_when_the_image_has_another(tmp_path: Path) -> None:
    async def work(records: ImageRecords) -> None:
        await records.put(BUSYBOX, target(1))
        await records.put("docker.io/library/other:1", target(1))
        await records.put(BUSYBOX, target(2))
        assert [each.name for each in await records.of(target(1).digest)] == ["docker.io/library/other:1"]
        assert (await records.put(BUSYBOX, target(2))).previous is None

    with_records(tmp_path, work)


def test_prefixes_names_and_replacement(tmp_path: Path) -> None:
    async def work(records: ImageRecords) -> None:
        await records.put(BUSYBOX, target(0xAB))
        await records.put(dangling_name(target(0xAC).digest), target(0xAC))
        assert len(await records.with_prefix("sha256:000")) == 2
        assert len(await records.with_prefix(target(0xAB).digest)) == 1
        assert await records.with_prefix("sha256:1") == []
        record = await records.get(BUSYBOX)
        assert record is not None and record.familiar() == "busybox:latest"
        await records.replace_by_dangling(record)
        assert [each.is_dangling for each in await records.all()] == [True, True]
        await records.delete(each.name for each in await records.all())
        assert await records.all() == []

    with_records(tmp_path, work)


def test_lineage_and_repository_names(tmp_path: Path) -> None:
    async def work(records: ImageRecords) -> None:
        digest = target(1).digest
        await records.put(BUSYBOX, target(1))
        await records.put("localhost:5000/me/app:2", target(2), {LABEL_PARENT: digest})
        await records.put(
            f"docker.io/library/pulled@{target(3).digest}", target(3), {LABEL_PARENT: target(2).digest}
        )
        lineage = await Lineage.read(records)
        assert lineage.ancestors(target(3).digest) == [target(2).digest, digest]
        assert lineage.has_children(digest) and not lineage.has_children(target(3).digest)
        assert repository_names(lineage.records(target(2).digest)) == (
            ["localhost:5000/me/app:2"],
            [f"localhost:5000/me/app@{target(2).digest}"],
        )
        assert repository_names(lineage.records(target(3).digest)) == ([], [f"pulled@{target(3).digest}"])

    with_records(tmp_path, work)
