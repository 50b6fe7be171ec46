"""The volume service without a single mount: create, look up, filter, use, remove, prune, restart."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sampan.engineapi.filters import Filters
from sampan.errors import Conflict, InvalidParameter, NotFound, SampanError
from sampan.events import EventBus
from sampan.store import Database
from sampan.volumes.interface import ANONYMOUS_LABEL
from sampan.volumes.records import VOLUMES_SCHEMA
from sampan.volumes.service import VolumeService

NONE = Filters()


class InProcess:
    """Runs jobs where they are asked for; the real thing forks."""

    async def run(self, target: str, args: dict[str, Any], fds: Sequence[int] = ()) -> Any:
        module, _, name = target.partition(":")
        return getattr(importlib.import_module(module), name)(args, list(fds), lambda report: None)


@asynccontextmanager
async def volumes_in(path: Path, events: EventBus | None = None) -> AsyncIterator[VolumeService]:
    database = await Database.open(path / "db", [VOLUMES_SCHEMA])
    service = await VolumeService.open(database, path / "volumes", events or EventBus(), InProcess())
    try:
        yield service
    finally:
        await service.close()
        await database.close()


def run(
    path: Path, scenario: Callable[[VolumeService], Awaitable[None]], events: EventBus | None = None
) -> None:
    async def main() -> None:
        async with volumes_in(path, events) as service:
            await scenario(service)

    asyncio.run(main())


async def names(service: VolumeService, **filters: str) -> list[str]:
    return [volume.name for volume in await service.list(Filters({k: [v] for k, v in filters.items()}))]


def test_create_is_idempotent_and_keeps_what_was_first(tmp_path: Path) -> None:
    async def scenario(service: VolumeService) -> None:
        first = await service.create("data", labels={"a": "1"})
        assert Path(first.mountpoint) == tmp_path / "volumes" / "data" / "_data"
        assert Path(first.mountpoint).stat().st_mode & 0o7777 == 0o755
        again = await service.create("data", driver="local", options={"type": "tmpfs"}, labels={"b": "2"})
        assert again == first

    run(tmp_path, scenario)


def test_anonymous(tmp_path: Path) -> None:
    async def scenario(service: VolumeService) -> None:
        volume = await service.create("")
        assert len(volume.name) == 64 and volume.labels == {ANONYMOUS_LABEL: ""}

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "message"),
    [
        ("a", {}, InvalidParameter, "create a: volume name is too short"),
        ("../x", {}, InvalidParameter, r'only "\[a-zA-Z0-9\]\[a-zA-Z0-9_.-\]" are allowed. If you intended'),
        (".trash", {}, InvalidParameter, "invalid characters"),
        ("data", {"options": {"foo": "1"}}, InvalidParameter, 'create data: invalid option: "foo"'),
        ("data", {"driver": "nope"}, NotFound,
         'create data: error looking up volume plugin nope: plugin "nope" not found'),
        ("taken", {"driver": "nope"}, NotFound, 'plugin "nope" not found'),
    ],
)  # fmt: skip
def test_refusals(
    tmp_path: Path, name: str, arguments: dict[str, Any], kind: type[SampanError], message: str
) -> None:
    async def scenario(service: VolumeService) -> None:
        await service.create("taken")
        with pytest.raises(kind, match=message):
            await service.create(name, **arguments)
        assert await names(service) == ["taken"]

    run(tmp_path, scenario)


def test_use_forbids_removal(tmp_path: Path) -> None:
    async def scenario(service: VolumeService) -> None:
        await service.create("data", container="c1")
        await service.reference("data", "c2")
        with pytest.raises(Conflict, match=r"^remove data: volume is in use - \[c1, c2\]$"):
            await service.remove("data", force=True)
        await service.release("c1")
        await service.release("c2")
        await service.remove("data")
        with pytest.raises(NotFound, match=r"^get data: no such volume$"):
            await service.inspect("data")
        with pytest.raises(NotFound):
            await service.remove("data")
        with pytest.raises(NotFound):
            await service.reference("data", "c3")
        await service.remove("data", force=True)

    run(tmp_path, scenario)
    assert [entry.name for entry in (tmp_path / "volumes").iterdir()] == [".trash"]
    assert not list((tmp_path / "volumes" / ".trash").iterdir())


def test_filters(tmp_path: Path) -> None:
    async def scenario(service: VolumeService) -> None:
        await service.create("one", labels={"env": "prod"}, container="c1")
        await service.create("two")
        assert await names(service, dangling="true") == ["two"]
        assert await names(service, dangling="0") == ["one"]
        assert await names(service, label="env") == await names(service, label="env=prod") == ["one"]
        assert await names(service, label="env=dev") == []
        assert await names(service, name="tw") == ["two"]
        assert await names(service, driver="other") == []
        with pytest.raises(InvalidParameter, match="invalid filter 'colour'"):
            await names(service, colour="red")

    run(tmp_path, scenario)


def test_prune(tmp_path: Path) -> None:
    async def scenario(service: VolumeService) -> None:
        anonymous = await service.create("")
        Path(anonymous.mountpoint, "file").write_bytes(b"x" * 100)
        used = await service.create("", container="c1")
        await service.create("named", labels={"keep": ""})
        await service.create("mounted", options={"type": "tmpfs", "device": "tmpfs"})
        with pytest.raises(InvalidParameter, match="only one value is expected"):
            await service.prune(Filters({"all": ["1", "0"]}))
        pruned = await service.prune(NONE)
        assert pruned.volumes_deleted == [anonymous.name] and pruned.space_reclaimed == 100
        assert (await service.prune(Filters({"all": ["true"], "label!": ["keep"]}))).volumes_deleted == []
        assert (await service.prune(Filters({"all": ["true"]}))).volumes_deleted == ["named"]
        assert set(await names(service)) == {used.name, "mounted"}

    run(tmp_path, scenario)


def test_disk_usage_counts_hard_links_once(tmp_path: Path) -> None:
    async def scenario(service: VolumeService) -> None:
        volume = await service.create("data", container="c1")
        file = Path(volume.mountpoint, "file")
        file.write_bytes(b"x" * 10)
        file.with_name("link").hardlink_to(file)
        (measured,) = await service.disk_usage()
        assert measured.usage_data and (measured.usage_data.size, measured.usage_data.ref_count) == (10, 1)

    run(tmp_path, scenario)


def test_events(tmp_path: Path) -> None:
    events = EventBus()

    async def scenario(service: VolumeService) -> None:
        await service.create("data")
        await service.create("data")
        await service.remove("data")
        await service.prune(NONE)

    run(tmp_path, scenario, events)
    assert [(e.action, e.actor.id, e.actor.attributes) for e in events.history(0)] == [
        ("create", "data", {"driver": "local"}),
        ("destroy", "data", {"driver": "local"}),
        ("prune", "", {"reclaimed": "0"}),
    ]


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async def before(service: VolumeService) -> None:
        await service.create("data", labels={}, options=None)
        await service.create("other", labels={"a": "b"})

    async def after(service: VolumeService) -> None:
        await service.recover({"c1": ["data"]}, {"c1": ["data"]})
        data, other = await service.list(NONE)
        assert (data.labels, data.options, other.labels) == ({}, None, {"a": "b"})
        with pytest.raises(Conflict):
            await service.remove("data")
        await service.unmount("data", "c1")
        await service.release("c1")
        await service.remove("data")

    run(tmp_path, before)
    run(tmp_path, after)


def test_a_removal_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    async def before(service: VolumeService) -> None:
        volume = await service.create("data")
        Path(volume.mountpoint, "file").write_text("x")
        await service._database.write(lambda cx: cx.execute("update volume set removing = 1"))

    async def after(service: VolumeService) -> None:
        assert await names(service) == []
        await service.create("data")

    run(tmp_path, before)
    run(tmp_path, after)
    assert not list((tmp_path / "volumes" / "data" / "_data").iterdir())


def test_strangers_with_content_are_left_alone(tmp_path: Path) -> None:
    empty, full = tmp_path / "volumes" / "half-made" / "_data", tmp_path / "volumes" / "restored" / "_data"
    for directory in (empty, full):
        directory.mkdir(parents=True)
    (full / "precious").write_text("x")

    async def scenario(service: VolumeService) -> None:
        assert await names(service) == []

    run(tmp_path, scenario)
    assert not empty.parent.exists() and (full / "precious").exists()


def test_lost_directories_are_made_again(tmp_path: Path) -> None:
    async def scenario(service: VolumeService) -> None:
        volume = await service.create("data")
        Path(volume.mountpoint).rmdir()
        assert await service.mount("data", "c1") == volume.mountpoint
        assert Path(volume.mountpoint).is_dir()

    run(tmp_path, scenario)


def test_creations_at_once_make_one_volume(tmp_path: Path) -> None:
    events = EventBus()

    async def scenario(service: VolumeService) -> None:
        await asyncio.gather(*(service.create("data", container=f"c{n}") for n in range(20)))
        assert len(service._users["data"]) == 20
        assert service._locks == {}

    run(tmp_path, scenario, events)
    assert len(events.history(0)) == 1
