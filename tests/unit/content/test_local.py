"""The content store: ingest, resumption, verification, leases, collection, and what kill -9 leaves."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sampan.content.gc import Collector
from sampan.content.interface import Resource, content_resource
from sampan.content.local import LocalContentStore
from sampan.content.schema import CONTENT_SCHEMA
from sampan.errors import Conflict, DataLoss, InvalidParameter, NotFound
from sampan.names.digest import Digest, digest_of
from sampan.store import Database

Scenario = Callable[[LocalContentStore, Collector], Awaitable[None]]


@asynccontextmanager
async def opened(scratch: Path) -> AsyncIterator[tuple[LocalContentStore, Collector]]:
    database = await Database.open(scratch / "db", [CONTENT_SCHEMA])
    try:
        store = await LocalContentStore.start(database, scratch / "content")
        yield store, Collector(database, store.leases, [store])
    finally:
        await database.close()


def run(scratch: Path, scenario: Scenario) -> None:
    async def body() -> None:
        async with opened(scratch) as (store, collector):
            await scenario(store, collector)

    asyncio.run(body())


def blobs(scratch: Path) -> list[str]:
    return sorted(os.listdir(scratch / "content" / "blobs" / "sha256"))


def test_what_was_put_can_be_read(tmp_path: Path) -> None:
    async def scenario(store: LocalContentStore, _: Collector) -> None:
        async with store.leases.hold("test") as lease:
            info = await store.put(b"0123456789", lease=lease, labels={"a": "1"})
            assert info.digest == digest_of(b"0123456789")
            assert await store.read(info.digest) == b"0123456789"
            assert [part async for part in store.stream(info.digest, offset=2, length=5, chunk=2)] == [
                b"23",
                b"45",
                b"6",
            ]
            fd = await store.open(info.digest)
            assert os.read(fd, 100) == b"0123456789"
            os.close(fd)
            again = await store.put(b"0123456789", lease=lease, labels={"b": "2"})
            assert again.labels == {"a": "1", "b": "2"}
            assert (await store.set_labels(info.digest, {"a": None})).labels == {"b": "2"}
            assert [each.digest for each in await store.walk()] == [info.digest]
            with pytest.raises(InvalidParameter, match="10 bytes, more than the 5 allowed"):
                await store.read(info.digest, limit=5)

    run(tmp_path, scenario)


def test_an_ingest_is_resumed_after_a_restart(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    digest = digest_of(data)

    async def first(store: LocalContentStore, _: Collector) -> None:
        lease = await store.leases.create(id="mine")
        ingest = await store.ingest("key", lease=lease, expected=digest, size=len(data))
        assert ingest is not None
        async with ingest:
            with pytest.raises(Conflict, match="already being written"):
                await store.ingest("key", lease=lease)
            await ingest.write(data[: 2 << 20])

    async def second(store: LocalContentStore, _: Collector) -> None:
        (lease,) = await store.leases.walk()
        (known,) = await store.ingests()
        assert (known.key, known.offset, known.expected, known.size) == ("key", 2 << 20, digest, len(data))
        ingest = await store.ingest("key", lease=lease, expected=digest, size=len(data))
        assert ingest is not None
        async with ingest:
            assert ingest.offset == 2 << 20
            await ingest.write(data[2 << 20 :])
            await ingest.commit()
        assert await store.ingests() == []
        assert await store.ingest("other", lease=lease, expected=digest) is None

    run(tmp_path, first)
    run(tmp_path, second)
    assert blobs(tmp_path) == [digest.partition(":")[2]]


def test_a_worker_writes_the_file_itself(tmp_path: Path) -> None:
    async def scenario(store: LocalContentStore, _: Collector) -> None:
        async with store.leases.hold("test") as lease:
            for key, verified in (("trusted", True), ("read again", False)):
                data = key.encode() * 1000
                ingest = await store.ingest(key, lease=lease)
                assert ingest is not None
                async with ingest:
                    os.write(ingest.fileno(), data)
                    info = await ingest.commit(digest=digest_of(data), verified=verified)
                assert (info.digest, info.size) == (digest_of(data), len(data))

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("expected", "size", "message"),
    [
        (digest_of(b"else"), None, "unexpected commit digest .* expected"),
        (None, 5, "unexpected commit size 4, expected 5"),
        (None, 3, "more than the 3 bytes announced"),
    ],
)
def test_wrong_bytes_are_refused_and_forgotten(
    tmp_path: Path, expected: Digest | None, size: int | None, message: str
) -> None:
    async def scenario(store: LocalContentStore, _: Collector) -> None:
        async with store.leases.hold("test") as lease:
            ingest = await store.ingest("key", lease=lease, expected=expected, size=size)
            assert ingest is not None
            with pytest.raises(InvalidParameter, match=message):
                async with ingest:
                    await ingest.write(b"data")
                    await ingest.commit()
        assert await store.walk() == []

    run(tmp_path, scenario)
    assert blobs(tmp_path) == []
    run(tmp_path, scenario)


def test_sha512_is_kept_under_its_own_name(tmp_path: Path) -> None:
    digest = Digest(f"sha512:{hashlib.sha512(b'x').hexdigest()}")

    async def scenario(store: LocalContentStore, _: Collector) -> None:
        async with store.leases.hold("test") as lease:
            ingest = await store.ingest("key", lease=lease, expected=digest)
            assert ingest is not None
            async with ingest:
                await ingest.write(b"x")
                await ingest.commit()
            assert await store.read(digest) == b"x"

    run(tmp_path, scenario)


def test_two_commits_of_one_blob_store_it_once(tmp_path: Path) -> None:
    async def scenario(store: LocalContentStore, _: Collector) -> None:
        async with store.leases.hold("test") as lease:

            async def write(key: str) -> None:
                ingest = await store.ingest(key, lease=lease)
                assert ingest is not None
                async with ingest:
                    await ingest.write(b"same")
                    await ingest.commit()

            await asyncio.gather(*(write(f"key{number}") for number in range(10)))
        assert len(await store.walk()) == 1
        assert await store.ingests() == []

    run(tmp_path, scenario)
    assert len(blobs(tmp_path)) == 1
    assert os.listdir(tmp_path / "content" / "ingest") == []


def test_damage_is_noticed(tmp_path: Path) -> None:
    async def scenario(store: LocalContentStore, _: Collector) -> None:
        async with store.leases.hold("test") as lease:
            info = await store.put(b"precious", lease=lease)
            path = tmp_path / "content" / "blobs" / "sha256" / blobs(tmp_path)[0]
            path.write_bytes(b"Precious")
            with pytest.raises(DataLoss, match="damaged"):
                await store.read(info.digest)
            with pytest.raises(DataLoss, match="damaged"):
                await store.verify(info.digest)
            path.unlink()
            with pytest.raises(DataLoss, match="missing"):
                await store.open(info.digest)

    run(tmp_path, scenario)


def test_missing_blobs(tmp_path: Path) -> None:
    digest = digest_of(b"never")

    async def scenario(store: LocalContentStore, _: Collector) -> None:
        for call in (store.info, store.read, store.open, store.delete):
            with pytest.raises(NotFound, match=f"content digest {digest}: not found"):
                await call(digest)
        assert not await store.exists(digest)

    run(tmp_path, scenario)


def test_collection_follows_references_from_roots_and_leases(tmp_path: Path) -> None:
    async def scenario(store: LocalContentStore, collector: Collector) -> None:
        roots: list[Resource] = []

        async def give_roots() -> list[Resource]:
            return roots

        collector.add_roots(give_roots)
        async with store.leases.hold("load") as lease:
            layer = await store.put(b"layer", lease=lease)
            config = await store.put(b"config", lease=lease)
            manifest = await store.put(
                b"manifest",
                lease=lease,
                references=[content_resource(layer.digest), content_resource(config.digest)],
            )
            junk = await store.put(b"junk", lease=lease)
            assert (await collector.run()).removed == []
            roots.append(content_resource(manifest.digest))
        collected = await collector.run()
        assert collected.removed == [content_resource(junk.digest)]
        assert collected.bytes == 4
        roots.clear()
        collected = await collector.run()
        assert collected.removed[0].id == manifest.digest
        assert len(collected.removed) == 3
        assert await store.walk() == []

    run(tmp_path, scenario)
    assert blobs(tmp_path) == []


def test_what_is_wanted_again_during_a_collection_stays_whole(tmp_path: Path) -> None:
    """A load finds an old manifest between mark and sweep, makes an image of it and drops its lease at once."""

    async def scenario(store: LocalContentStore, collector: Collector) -> None:
        async with store.leases.hold("old") as lease:
            layer = await store.put(b"layer", lease=lease)
            manifest = await store.put(b"manifest", lease=lease, references=[content_resource(layer.digest)])
        reached = False

        async def late_roots() -> list[Resource]:
            nonlocal reached
            if not reached:
                reached = True
                async with store.leases.hold("new") as lease:
                    assert await store.ingest("again", lease=lease, expected=manifest.digest) is None
            return []

        collector.add_roots(late_roots)
        assert (await collector.run()).removed == []
        assert {info.digest for info in await store.walk()} == {layer.digest, manifest.digest}
        assert len((await collector.run()).removed) == 2

    run(tmp_path, scenario)


def test_leases(tmp_path: Path) -> None:
    async def scenario(store: LocalContentStore, collector: Collector) -> None:
        lease = await store.leases.create(id="mine", labels={"a": "1"})
        with pytest.raises(Conflict):
            await store.leases.create(id="mine")
        info = await store.put(b"x", lease=lease)
        assert content_resource(info.digest) in await store.leases.resources(lease)
        brief = await store.leases.create(expires_in=-1)
        await collector.run()
        assert [each.id for each in await store.leases.walk()] == ["mine"]
        with pytest.raises(NotFound):
            await store.leases.add(brief, content_resource(info.digest))
        await store.leases.delete(lease)
        await store.leases.delete(lease)
        with pytest.raises(NotFound, match='lease "mine": not found'):
            await store.put(b"y", lease=lease)

    run(tmp_path, scenario)


def test_collection_drops_ingests_that_nobody_will_resume(tmp_path: Path) -> None:
    async def scenario(store: LocalContentStore, collector: Collector) -> None:
        async with store.leases.hold("load") as lease:
            for key in ("broken off", "being written"):
                ingest = await store.ingest(key, lease=lease)
                assert ingest is not None
                await ingest.write(b"x" * (1 << 20))
                if key == "broken off":
                    ingest.release()
            await collector.run()
            assert len(await store.ingests()) == 2
        await collector.run()
        assert [each.key for each in await store.ingests()] == ["being written"]
        assert len(os.listdir(tmp_path / "content" / "ingest")) == 1

    run(tmp_path, scenario)


def test_strays_of_a_killed_engine_are_removed(tmp_path: Path) -> None:
    async def nothing(store: LocalContentStore, _: Collector) -> None:
        lease = await store.leases.create(id="ended")
        ingest = await store.ingest("abandoned", lease=lease)
        assert ingest is not None
        async with ingest:
            await ingest.write(b"x")
        await store.leases.delete(lease)

    run(tmp_path, nothing)
    (tmp_path / "content" / "blobs" / "sha256" / ("0" * 64)).write_text(
        "renamed, but its row was never written"
    )
    (tmp_path / "content" / "ingest" / "999").write_text("no row")

    async def check(store: LocalContentStore, _: Collector) -> None:
        assert await store.ingests() == []
        assert os.listdir(tmp_path / "content" / "ingest") == []

    run(tmp_path, check)
    assert blobs(tmp_path) == []


_WRITER = """
import asyncio, itertools, os, sys
from pathlib import Path
from sampan.content.local import LocalContentStore
from sampan.content.schema import CONTENT_SCHEMA
from sampan.store import Database

async def main(scratch):
    database = await Database.open(scratch / "db", [CONTENT_SCHEMA])
    store = await LocalContentStore.start(database, scratch / "content")
    lease = await store.leases.create()
    for number in itertools.count():
        info = await store.put(os.urandom(20000) + str(number).encode(), lease=lease)
        print(info.digest, flush=True)
        if number % 3 == 2:
            await store.delete(info.digest)
            print("-" + info.digest, flush=True)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Killed at an arbitrary moment, several times: what was reported is there and whole, nothing else is on disk."""
    present: set[str] = set()
    doubtful: set[str] = set()
    for lines in (1, 4, 9, 14, 20):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        seen = [writer.stdout.readline().strip() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        seen += writer.stdout.read().split()
        writer.wait()
        for line in seen:
            present.add(line) if not line.startswith("-") else present.discard(line[1:])
        doubtful.add(seen[-1])  # its deletion may have begun

    async def check(store: LocalContentStore, _: Collector) -> None:
        stored = {str(info.digest) for info in await store.walk()}
        assert present - doubtful <= stored
        assert {f"sha256:{name}" for name in blobs(tmp_path)} == stored
        for digest in stored:
            await store.verify(Digest(digest))

    run(tmp_path, check)
