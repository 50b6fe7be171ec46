"""One running engine: every store and service, opened in order, closed in the reverse order.

Opening is recovery: each service compares its rows with what it finds on disk and in the kernel, and removes what no row
names. That makes a start after kill -9 the same code as any other start.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from sampan.build.cache import BUILD_SCHEMA
from sampan.build.history import HISTORY_SCHEMA
from sampan.build.service import BuildService
from sampan.containers.registry import CONTAINERS_SCHEMA
from sampan.containers.service import ContainerService
from sampan.content.gc import Collector
from sampan.content.local import LocalContentStore
from sampan.content.schema import CONTENT_SCHEMA
from sampan.engine.config import EngineConfig
from sampan.engine.identity import engine_id
from sampan.engine.information import Information
from sampan.engine.settings import (
    container_settings,
    launcher_config,
    network_options,
    registry_settings,
    reloaded_attributes,
)
from sampan.engine.userns import check_kernel, remapping
from sampan.events import EventBus
from sampan.images.records import IMAGES_SCHEMA
from sampan.images.service import ImageService
from sampan.networks.model import SCHEMA as NETWORKS_SCHEMA
from sampan.networks.service import NetworkService
from sampan.oci.remapping import Remapping
from sampan.registry.client import RegistryClient
from sampan.runtime.launcher import PRELOAD, Launcher
from sampan.snapshots.directories import DirectorySnapshotter
from sampan.snapshots.probe import start_snapshotter
from sampan.snapshots.records import SNAPSHOT_SCHEMA
from sampan.solver.records import SOLVER_SCHEMA
from sampan.store import Database
from sampan.volumes.records import VOLUMES_SCHEMA
from sampan.volumes.service import VolumeService
from sampan.zygote.client import Zygote
from sampan.zygote.workers import Workers

log = logging.getLogger(__name__)

_SCHEMAS = (
    CONTENT_SCHEMA,
    SNAPSHOT_SCHEMA,
    IMAGES_SCHEMA,
    NETWORKS_SCHEMA,
    VOLUMES_SCHEMA,
    CONTAINERS_SCHEMA,
    BUILD_SCHEMA,
    SOLVER_SCHEMA,
    HISTORY_SCHEMA,
)


class Engine:
    """The services by the names that the API's routes use. Make one with `Engine.start`."""

    id: str
    remapping: Remapping | None
    """Of the containers' user namespaces, when they have any."""
    events: EventBus
    snapshots: DirectorySnapshotter
    registry: RegistryClient
    images: ImageService
    networks: NetworkService
    volumes: VolumeService
    containers: ContainerService
    builds: BuildService

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.information = Information(self)
        self._closing = AsyncExitStack()

    @classmethod
    async def start(cls, config: EngineConfig) -> Self:
        """Open everything and recover. Raises `SampanError` when something is missing; then nothing stays open."""
        engine = cls(config)
        try:
            await engine._open()
        except BaseException:
            await engine.close()
            raise
        return engine

    async def _open(self) -> None:
        config, closing = self.config, self._closing
        self.remapping = await asyncio.to_thread(remapping, config.userns_remap)
        await asyncio.to_thread(_make_directories, config)
        self.id = engine_id(config.data_path)
        self.events = EventBus()
        closing.callback(self.events.close)

        zygote = await Zygote.start(PRELOAD)
        closing.push_async_callback(zygote.close)
        workers = Workers(zygote)
        if self.remapping is not None:
            await check_kernel(workers, config.data_path, self.remapping)
        database = await Database.open(config.data_path / "sampan.db", _SCHEMAS)
        closing.push_async_callback(database.close)
        launcher = await Launcher.start(launcher_config(config, self.id), zygote)
        closing.push_async_callback(launcher.close)

        content = await LocalContentStore.start(database, config.data_path / "content")
        self.snapshots = await start_snapshotter(
            database, config.data_path / "snapshots", config.storage_driver or "auto"
        )
        closing.push_async_callback(self.snapshots.close)
        collector = Collector(database, content.leases, [content, self.snapshots])
        self.registry = RegistryClient(registry_settings(config))
        closing.push_async_callback(self.registry.close)
        self.images = ImageService(
            database, content, self.snapshots, workers, collector, self.events, self.registry
        )
        closing.push_async_callback(self.images.close)
        owner = self.remapping.root if self.remapping else (0, 0)
        self.volumes = await VolumeService.open(
            database, config.data_path / "volumes", self.events, workers, owner
        )
        self.networks = await NetworkService.open(database, self.events, network_options(config))
        closing.push_async_callback(self.networks.close)

        self.containers = ContainerService(
            settings=container_settings(config, self.remapping),
            database=database,
            events=self.events,
            images=self.images,
            snapshots=self.snapshots,
            networks=self.networks,
            volumes=self.volumes,
            launcher=launcher,
            workers=workers,
        )
        self.builds = await BuildService.open(
            database,
            self.images,
            self.containers,
            workers,
            config.data_path,
            config.exec_path / "builds",
            collector,
        )
        closing.push_async_callback(self.builds.close)
        await self.containers.recover()
        await self.builds.recover()
        await self.images.recover({container.id for container in self.containers.registry})
        await database.settle()
        if await asyncio.to_thread(self._came_from_idleness):
            return  # nothing ran, and nothing waited to: what its user stopped stays so
        self.containers.start_by_policy()

    def _came_from_idleness(self) -> bool:
        try:
            self._idle_mark.unlink()
        except FileNotFoundError:
            return False
        return True

    @property
    def _idle_mark(self) -> Path:
        """Left by an engine that left because it had nothing to do: for its containers that is no end of an engine's life."""
        return self.config.data_path / "left-idle"

    def leave_idle(self) -> None:
        """Say before a shutdown that it is for want of work: the next engine applies no restart policy."""
        self._idle_mark.touch()

    def is_idle(self) -> bool:
        """True when no container runs or waits for its restart, and no image is being built."""
        return not self.containers.running and not self.builds.running

    def task_count(self) -> int:
        """How many things the engine does at once; `docker info` calls them goroutines."""
        return len(asyncio.all_tasks())

    def reload(self, config: EngineConfig) -> None:
        """Take over a configuration whose reloadable keys may have changed (SIGHUP), and tell it as an event."""
        self.config = config
        self.registry.reconfigure(registry_settings(config))
        self.containers.reload(container_settings(config, self.remapping))
        self.events.publish("daemon", "reload", self.id, reloaded_attributes(config))

    async def stop_containers(self) -> None:
        """The first half of a shutdown: containers stop within the shutdown timeout, unless live-restore keeps them."""
        await self.containers.shut_down()

    async def close(self) -> None:
        """The second half: services close in the reverse order of their opening. Idempotent."""
        await self._closing.aclose()


def _make_directories(config: EngineConfig) -> None:
    for path, mode in (
        (config.data_path, 0o710),
        (config.exec_path, 0o711),
        (config.data_path / "containers", 0o700),
    ):
        Path(path).mkdir(mode=mode, parents=True, exist_ok=True)
    # Whoever made it: a user of the host who gets past it finds containers' set-id programs and their secrets (CVE-2021-41091).
    config.data_path.chmod(0o710)
