"""The container service: the verbs, wired together.

Each verb's module has one class; this is where they get each other. Faces and other services use the attributes::

    containers = await ContainerService.open(database=…, images=…, …)
    container = containers.get("web")
    await containers.lifecycle.start(container)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sampan.containers.commit import Commit
from sampan.containers.container import Container
from sampan.containers.copying import Copying
from sampan.containers.creation import Creation
from sampan.containers.editing import Editing
from sampan.containers.execs import Execs, build_process
from sampan.containers.exits import Exits
from sampan.containers.health import HealthChecks
from sampan.containers.inspection import Inspection
from sampan.containers.lifecycle import Lifecycle
from sampan.containers.listing import Listing, ListRequest
from sampan.containers.log_shipping import LogShipping
from sampan.containers.logs import Logs
from sampan.containers.monitoring import Monitoring
from sampan.containers.mounts import Mounting
from sampan.containers.programs import Programs
from sampan.containers.recovery import Recovery
from sampan.containers.registry import CONTAINERS_SCHEMA, ContainerRegistry
from sampan.containers.removal import Removal
from sampan.containers.services import ContainerSettings, Services
from sampan.containers.starting import Starting
from sampan.engineapi.filters import Filters
from sampan.engineapi.version import API_VERSION
from sampan.images.interface import ContainerUse

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.events import EventBus
    from sampan.images.interface import Images
    from sampan.networks.interface import Networks
    from sampan.oci.runtime import Process
    from sampan.runtime.interface import Launcher
    from sampan.snapshots.interface import Snapshotter
    from sampan.store import Database
    from sampan.volumes.interface import Volumes
    from sampan.zygote.workers import Workers

__all__ = ["CONTAINERS_SCHEMA", "ContainerService", "ContainerSettings"]


class ContainerService:
    """All containers of one engine. After constructing it call `recover` once; before closing the services `shut_down`."""

    def __init__(
        self,
        *,
        settings: ContainerSettings,
        database: Database,
        events: EventBus,
        images: Images,
        snapshots: Snapshotter,
        networks: Networks,
        volumes: Volumes,
        launcher: Launcher,
        workers: Workers,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.registry = ContainerRegistry(database)
        services = Services(
            settings=settings,
            registry=self.registry,
            events=events,
            images=images,
            snapshots=snapshots,
            networks=networks,
            volumes=volumes,
            launcher=launcher,
            workers=workers,
            clock=clock,
        )
        self.services = services
        mounting = Mounting(services)
        health = HealthChecks(services, self._probe_process)
        self._shipping = LogShipping(services)
        exits = Exits(services, mounting, health, self._shipping)
        self._starting = Starting(services, mounting, exits, health, self._shipping)
        self.creation = Creation(services, mounting)
        self.programs = Programs(services, self.creation)
        self.lifecycle = Lifecycle(services, self._starting, exits)
        self.listing = Listing(services)
        self.inspection = Inspection(services, self.listing)
        self.removal = Removal(services, mounting, self.lifecycle, self.listing)
        self.execs = Execs(services)
        self.editing = Editing(services)
        self.logs = Logs(services)
        self.monitoring = Monitoring(services)
        self.copying = Copying(services)
        self.commit = Commit(services, self.lifecycle)
        self._recovery = Recovery(services, mounting, exits, health, self.lifecycle, self.removal)
        exits.bind(self._restart_by_policy, self.removal.auto_remove)
        images.register_container_uses(self.uses)

    def get(self, reference: str) -> Container:
        """By id, name or beginning of an id. Raises `NotFound("No such container: x")`."""
        return self.registry.get(reference)

    def reload(self, settings: ContainerSettings) -> None:
        """Other defaults from now on; directories and cgroup parents are those of the start."""
        self.services.settings = settings

    async def recover(self) -> None:
        """Load, adopt and repair; see `recovery`."""
        await self.programs.recover()
        await self._recovery.recover()

    def start_by_policy(self) -> None:
        """After `recover`: containers that their restart policy wants to run start in the background."""
        self._recovery.start_by_policy()

    async def shut_down(self) -> None:
        """Stop what runs, unless live-restore is on; see `recovery`."""
        await self._recovery.shut_down()
        await self._shipping.close()

    async def uses(self) -> list[ContainerUse]:
        """Which images containers use, for the image service."""
        made_from = [
            ContainerUse(
                container.id,
                container.record.image_id,
                container.record.config.image,
                container.state.running,
                (container.record.manifest or {}).get("digest", ""),
            )
            for container in self.registry
        ]
        mounted = [
            ContainerUse(container.id, mount.image_id, mount.name, container.state.running)
            for container in self.registry
            for mount in container.record.mounts
            if mount.type == "image"
        ]
        return made_from + mounted

    @property
    def running(self) -> int:
        """How many run or wait for their restart: an engine started on demand stays while there are any."""
        return sum(container.state.running for container in self.registry)

    def counts(self) -> dict[str, int]:
        """How many run, are paused and are stopped, as `docker info` counts them (paused ones are not running)."""
        counts = {"running": 0, "paused": 0, "stopped": 0}
        for container in self.registry:
            state = container.state
            counts["paused" if state.status == "paused" else "running" if state.running else "stopped"] += 1
        return counts

    async def disk_usage(self) -> list[dict[str, Any]]:
        """`docker system df`: every container with the bytes that its writable layer and its whole root take.

        In the newest words whatever the client speaks, and without the image's descriptor, as dockerd.
        """
        items = await self.listing.containers(ListRequest(Filters(), all=True, size=True), API_VERSION)
        for item in items:
            item.pop("ImageManifestDescriptor", None)
        return items

    async def _restart_by_policy(self, container: Container) -> None:
        await self._starting.start(container, by_policy=True)

    async def _probe_process(self, container: Container, arguments: list[str]) -> Process:
        return build_process(
            self.services.settings,
            container.record,
            arguments,
            env=[],
            working_dir="",
            privileged=False,
            tty=False,
        )
