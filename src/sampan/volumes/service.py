"""Volumes of the driver `local`, with their metadata in the database."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from sampan.engineapi.filters import Filters
from sampan.engineapi.volume import UsageData, Volume, VolumesPruned
from sampan.errors import Conflict, InvalidParameter, NotFound, SampanError, SystemFailure, reason_of
from sampan.events import EventBus
from sampan.faults import point
from sampan.names.names import check_volume_name, new_id
from sampan.store import Database
from sampan.volumes import local, records
from sampan.volumes.copyup import finish_copy
from sampan.volumes.interface import ANONYMOUS_LABEL
from sampan.volumes.records import VolumeRecord

log = logging.getLogger(__name__)

_TRASH = ".trash"  # no volume can have this name
_TRASH_ATTEMPTS = 3


class Jobs(Protocol):
    """Runs a function in a worker process: `sampan.zygote.workers.Workers`."""

    async def run(self, target: str, args: dict[str, Any], fds: Sequence[int] = ()) -> Any: ...


class VolumeService:
    """See `sampan.volumes.interface.Volumes`. Make one with `open`."""

    def __init__(
        self, database: Database, root: Path, events: EventBus, jobs: Jobs, owner: tuple[int, int]
    ) -> None:
        self._database = database
        self._root = root
        self._events = events
        self._jobs = jobs
        self._owner = owner
        self._records: dict[str, VolumeRecord] = {}
        self._users: dict[str, dict[str, None]] = {}
        """Containers that refer to a volume, in the order in which they came."""
        self._mounted_by: dict[str, set[str]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._pruning = False

    @classmethod
    async def open(
        cls, database: Database, root: Path, events: EventBus, jobs: Jobs, owner: tuple[int, int] = (0, 0)
    ) -> VolumeService:
        """The volumes beneath directory `root`, which is made if need be. Removals that were cut short are finished.

        `owner` (uid, gid) gets new volumes: whoever is root in the containers. The database has `records.VOLUMES_SCHEMA`.
        """
        service = cls(database, root, events, jobs, owner)
        await asyncio.to_thread(_make_root, root)
        for record in await database.read(records.load_volumes):
            service._records[record.name] = record
        for name in await database.read(records.load_removing):
            await service._remove_directory(name)
        await asyncio.to_thread(_drop_empty_strangers, root, set(service._records))
        service._empty_trash()
        return service

    async def close(self) -> None:
        """Wait for removals in the background. Mounts stay: containers may be running with them."""
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)

    async def recover(self, used: Mapping[str, Iterable[str]], mounted: Mapping[str, Iterable[str]]) -> None:
        """See the interface."""
        for container, names in used.items():
            for name in names:
                self._users.setdefault(name, {})[container] = None
        for container, names in mounted.items():
            for name in names:
                self._mounted_by.setdefault(name, set()).add(container)
        for record in self._records.values():
            if record.needs_mount and not self._mounted_by.get(record.name):
                await asyncio.to_thread(_unmount_if_mounted, self._data(record.name))
        await self._remove_doomed()

    async def _remove_doomed(self) -> None:
        """Finish what an engine that was killed owed: anonymous volumes of containers that never came to be, or are gone."""
        doomed = await self._database.read(records.load_doomed)
        used = [name for name in doomed if self._users.get(name)]
        if used:
            await self._database.write(lambda cx: records.spare_volumes(cx, used), durable=False)
        for name in set(doomed) - set(used):
            await self.remove(name, force=True)

    def keep(self, cx: sqlite3.Connection, container: str) -> None:
        """See the interface."""
        records.keep_volumes(cx, container)

    def doom(self, cx: sqlite3.Connection, container: str, names: Iterable[str]) -> None:
        """See the interface."""
        records.doom_volumes(cx, container, names)

    async def spare(self, name: str) -> None:
        """See the interface."""
        await self._database.write(lambda cx: records.spare_volumes(cx, [name]), durable=False)

    def drivers(self) -> list[str]:
        """See the interface."""
        return [local.DRIVER]

    # --- create, look up, list ---------------------------------------------------------------------------------------

    async def create(
        self,
        name: str,
        *,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        anonymous: bool = False,
        container: str = "",
    ) -> Volume:
        """See the interface."""
        if anonymous or not name:
            name = name or new_id()
            labels = {**(labels or {}), ANONYMOUS_LABEL: ""}
        async with self._locked(name):
            record = self._records.get(name)
            if record is None:
                goes_with = container if anonymous else ""
                record = await self._create(name, driver, options, labels, goes_with)
                self._publish("create", record)
            elif driver and driver != record.driver:
                _check_driver(name, driver)
                raise Conflict(
                    f"create {name}: driver '{record.driver}' already has volume '{name}': volume name must be unique"
                )
            if container:
                self._users.setdefault(name, {})[container] = None
        return self._volume(record)

    async def _create(
        self,
        name: str,
        driver: str,
        options: Mapping[str, str] | None,
        labels: Mapping[str, str] | None,
        goes_with: str,
    ) -> VolumeRecord:
        _check_driver(name, driver)
        try:
            check_volume_name(name)
            local.check_options(options or {})
        except InvalidParameter as error:
            raise InvalidParameter(f"create {name}: {error}") from None
        record = VolumeRecord(
            name,
            local.DRIVER,
            time.time_ns(),
            None if options is None else dict(options),
            None if labels is None else dict(labels),
        )
        # The directory is empty: should a power loss take it but not the row, `mount` makes it anew and nothing is lost.
        await asyncio.to_thread(_make_directories, self._root / name, self._owner)
        point("volume-create.directory-made")
        durable = ANONYMOUS_LABEL not in (labels or {})
        await self._database.write(lambda cx: records.put_volume(cx, record, goes_with), durable=durable)
        point("volume-create.row-written")
        self._records[name] = record
        return record

    async def inspect(self, name: str) -> Volume:
        """See the interface."""
        return self._volume(self._get(name))

    async def list(self, filters: Filters) -> list[Volume]:
        """See the interface."""
        filters.validate(("dangling", "name", "driver", "label"))
        dangling = filters.boolean("dangling", False) if "dangling" in filters else None
        return [
            self._volume(record)
            for record in self._records.values()
            if filters.match("name", record.name)
            and filters.exact("driver", record.driver)
            and filters.labels(record.labels)
            and (dangling is None or dangling is not bool(self._users.get(record.name)))
        ]

    async def disk_usage(self) -> Sequence[Volume]:
        """See the interface."""
        counted = [record for record in self._records.values() if not record.options]
        sizes = await self._sizes([record.name for record in counted])
        volumes = []
        for record, size in zip(counted, sizes, strict=True):
            volume = self._volume(record)
            volume.usage_data = UsageData(size, len(self._users.get(record.name, ())))
            volumes.append(volume)
        return volumes

    # --- removal -----------------------------------------------------------------------------------------------------

    async def remove(self, name: str, *, force: bool = False) -> None:
        """See the interface."""
        async with self._locked(name):
            if name not in self._records:
                if force:
                    return
                raise NotFound(f"get {name}: no such volume")
            await self._remove(self._records[name])
        self._empty_trash()

    async def prune(self, filters: Filters) -> VolumesPruned:
        """See the interface. Volumes with mount options are left: removing them would free nothing."""
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        try:
            return await self._prune(filters)
        finally:
            self._pruning = False

    async def _prune(self, filters: Filters) -> VolumesPruned:
        filters.validate(("label", "label!", "all"))
        named_too = _all_filter(filters)
        candidates = [
            record.name
            for record in self._records.values()
            if not self._users.get(record.name)
            and not record.options
            and filters.labels(record.labels)
            and filters.labels_absent(record.labels)
            and (named_too or ANONYMOUS_LABEL in (record.labels or {}))
        ]
        pruned = VolumesPruned([])
        for name, size in zip(candidates, await self._sizes(candidates), strict=True):
            try:
                await self.remove(name)
            except SampanError as error:  # in use meanwhile
                log.info("volume %s is not pruned: %s", name, error)
                continue
            pruned.volumes_deleted.append(name)
            pruned.space_reclaimed += max(size, 0)
        self._events.publish("volume", "prune", "", {"reclaimed": str(pruned.space_reclaimed)})
        return pruned

    async def _remove(self, record: VolumeRecord) -> None:
        """Lock held. The row says durably that the volume is gone before anything of it is touched."""
        name = record.name
        if users := self._users.get(name):
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        if self._mounted_by.get(name):
            raise SystemFailure(f"remove {name}: volume has active mounts")
        if record.needs_mount:
            await asyncio.to_thread(_unmount_if_mounted, self._data(name))
        await self._database.write(lambda cx: records.begin_removal(cx, name), durable=True)
        point("volume-remove.row-marked")
        del self._records[name]
        self._users.pop(name, None)
        await self._remove_directory(name)
        self._publish("destroy", record)

    async def _remove_directory(self, name: str) -> None:
        await asyncio.to_thread(_move_to_trash, self._root, name)
        point("volume-remove.moved-away")
        await self._database.write(lambda cx: records.drop_volume(cx, name), durable=False)

    def _empty_trash(self) -> None:
        """Delete in the background what has been moved away; what a crash leaves there goes at the next start."""
        task = asyncio.get_running_loop().create_task(self._delete_trash())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _delete_trash(self) -> None:
        """A worker that is killed meanwhile is one more reason to go on: twice, then it is the next start's."""
        for _ in range(_TRASH_ATTEMPTS):
            paths = await asyncio.to_thread(_list_trash, self._root)
            if not paths:
                return
            try:
                await self._jobs.run("sampan.volumes.trees:remove_job", {"paths": paths})
            except SampanError as error:
                log.warning("removed volumes are still in %s: %s", self._root / _TRASH, error)

    # --- use ---------------------------------------------------------------------------------------------------------

    async def reference(self, name: str, container: str) -> None:
        """See the interface."""
        async with self._locked(name):
            self._get(name)
            self._users.setdefault(name, {})[container] = None

    async def release(self, container: str) -> None:
        """See the interface."""
        for name, users in list(self._users.items()):
            users.pop(container, None)
            if not users:
                del self._users[name]
        for name, containers in list(self._mounted_by.items()):
            if container in containers:
                await self.unmount(name, container)

    async def mount(self, name: str, container: str) -> str:
        """See the interface."""
        async with self._locked(name):
            record = self._get(name)
            data = self._data(name)
            mounting = (
                (record.options or {}) if record.needs_mount and not self._mounted_by.get(name) else None
            )
            await asyncio.to_thread(_prepare, self._root / name, self._owner, mounting)
            self._mounted_by.setdefault(name, set()).add(container)
            return data

    async def unmount(self, name: str, container: str) -> None:
        """See the interface."""
        async with self._locked(name):
            containers = self._mounted_by.get(name, set())
            if container not in containers:
                return
            containers.discard(container)
            if containers:
                return
            del self._mounted_by[name]
            record = self._records.get(name)
            if record is not None and record.needs_mount:
                await asyncio.to_thread(local.unmount_data, self._data(name))

    # --- parts -------------------------------------------------------------------------------------------------------

    def _get(self, name: str) -> VolumeRecord:
        try:
            return self._records[name]
        except KeyError:
            raise NotFound(f"get {name}: no such volume") from None

    def _data(self, name: str) -> str:
        return str(self._root / name / local.DATA)

    def _volume(self, record: VolumeRecord) -> Volume:
        created = datetime.fromtimestamp(record.created_ns // 1_000_000_000, UTC)
        return Volume(
            created_at=created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            driver=record.driver,
            labels=record.labels,
            mountpoint=self._data(record.name),
            name=record.name,
            options=record.options,
        )

    async def _sizes(self, names: Sequence[str]) -> Sequence[int]:
        if not names:
            return []
        paths = [self._data(name) for name in names]
        sizes: Sequence[int] = await self._jobs.run("sampan.volumes.trees:sizes_job", {"paths": paths})
        return sizes

    def _publish(self, action: str, record: VolumeRecord) -> None:
        self._events.publish("volume", action, record.name, {"driver": record.driver})

    @asynccontextmanager
    async def _locked(self, name: str) -> AsyncIterator[None]:
        """One action at a time on a volume, others meanwhile on other volumes."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not getattr(lock, "_waiters", None):
                self._locks.pop(name, None)


def _check_driver(name: str, driver: str) -> None:
    if driver and driver != local.DRIVER:
        raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')


def _all_filter(filters: Filters) -> bool:
    values = filters.get("all")
    if len(values) > 1:
        raise InvalidParameter(f"invalid filter 'all={' '.join(values)}': only one value is expected")
    try:
        return filters.boolean("all", False)
    except InvalidParameter:
        reason = f'strconv.ParseBool: parsing "{values[0]}": invalid syntax'
        raise InvalidParameter(f"invalid filter 'all': {reason}") from None


# --- what runs in threads ---------------------------------------------------------------------------------------------


def _make_root(root: Path) -> None:
    """0701: containers' processes of other users must reach the data, but not list whose it is."""
    root.mkdir(mode=0o701, parents=True, exist_ok=True)
    (root / _TRASH).mkdir(mode=0o700, exist_ok=True)


def _make_directories(directory: Path, owner: tuple[int, int]) -> None:
    try:
        directory.mkdir(mode=0o701, exist_ok=True)
        data = directory / local.DATA
        try:
            data.mkdir(mode=0o755)
        except FileExistsError:
            return
        data.chmod(0o755)  # whatever the umask
        os.chown(data, *owner)
        directory.chmod(0o701)
    except OSError as error:
        raise SystemFailure(f"error while creating volume path '{directory}': {reason_of(error)}") from error


def _move_to_trash(root: Path, name: str) -> None:
    try:
        os.rename(root / name, root / _TRASH / f"{name}-{secrets.token_hex(4)}")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SystemFailure(f"error removing volume path '{root / name}': {reason_of(error)}") from error


def _list_trash(root: Path) -> list[str]:
    return [entry.path for entry in os.scandir(root / _TRASH)]


def _drop_empty_strangers(root: Path, known: set[str]) -> None:
    """Directories that a creation left which did not come to its row. They are empty.

    One that holds anything is left alone and told: it is somebody's data, whatever became of the database.
    """
    for entry in os.scandir(root):
        if entry.name in known or entry.name == _TRASH or not entry.is_dir(follow_symlinks=False):
            continue
        try:
            data = os.path.join(entry.path, local.DATA)
            if os.path.isdir(data):
                os.rmdir(data)
            os.rmdir(entry.path)
        except OSError:
            log.warning("%s belongs to no volume and has content: left alone", entry.path)


def _prepare(directory: Path, owner: tuple[int, int], mounting: Mapping[str, str] | None) -> None:
    """Make the data be there, mounted where `mounting` says how, without half a copy of an image's directory."""
    _make_directories(directory, owner)
    data = str(directory / local.DATA)
    if mounting is not None:
        _mount_unless_mounted(mounting, data)
    try:
        finish_copy(data)
    except OSError as error:
        raise SystemFailure(f"finishing the first copy into {data}: {reason_of(error)}") from error


def _mount_unless_mounted(options: Mapping[str, str], data: str) -> None:
    if not os.path.ismount(data):  # a former engine may have left it mounted
        local.mount_data(options, data)


def _unmount_if_mounted(data: str) -> None:
    if os.path.ismount(data):
        local.unmount_data(data)
