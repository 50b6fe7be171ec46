"""`docker rm` and `docker container prune`.

The row goes first, durably: from then on the container does not exist, and whatever is left of its data is garbage that recovery
removes too. A removal that was interrupted before that is marked in the run state, and recovery finishes it.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING, NamedTuple

from sampan.containers.container import Container
from sampan.containers.links import without_link
from sampan.errors import Conflict, NotFound, SampanError
from sampan.faults import point

if TYPE_CHECKING:
    from sampan.containers.lifecycle import Lifecycle
    from sampan.containers.listing import Listing
    from sampan.containers.mounts import Mounting
    from sampan.containers.services import Services
    from sampan.engineapi.filters import Filters

log = logging.getLogger(__name__)


class Pruned(NamedTuple):
    """Ids removed, and the bytes that their writable layers took."""

    ids: list[str]
    bytes: int


class Removal:
    """Removes containers."""

    def __init__(
        self, services: Services, mounting: Mounting, lifecycle: Lifecycle, listing: Listing
    ) -> None:
        self._services = services
        self._mounting = mounting
        self._lifecycle = lifecycle
        self._listing = listing

    async def remove(self, container: Container, *, force: bool = False, volumes: bool = False) -> None:
        """Raises `Conflict` when it runs and `force` is not given, or when somebody else removes it."""
        state = container.state
        if state.removing:
            raise Conflict(f"removal of container {container.name} is already in progress")
        state.removing, state.removing_volumes = True, volumes  # no start begins from here on
        try:
            await container.settled()
            if state.running:
                await self._make_stop(container, force=force)
            async with container.lock:
                await self._remove_stopped(container, volumes=volumes)
        except BaseException:
            await self._give_up(container)
            raise

    async def _give_up(self, container: Container) -> None:
        """The removal has failed and was reported so: no later start finishes it."""
        container.state.removing = False
        if self._services.registry.by_id(container.id) is container:
            await self._services.registry.keep_state(container)

    async def _make_stop(self, container: Container, *, force: bool) -> None:
        if not force:
            prefix = f'cannot remove container "{container.name}": '
            if container.state.status == "paused":
                raise Conflict(prefix + "container is paused and must be unpaused first")
            raise Conflict(
                f"{prefix}container is {container.state.status}: stop the container before removing or force remove"
            )
        await self._lifecycle.kill_and_wait(container)
        if container.state.running:
            raise SampanError(f'cannot remove container "{container.name}": could not kill container')

    async def _remove_stopped(self, container: Container, *, volumes: bool) -> None:
        services = self._services
        container.cancel_restart()
        point("remove.stopped")
        mounts = container.record.mounts if volumes else ()
        doomed = [mount.name for mount in mounts if mount.type == "volume" and mount.anonymous]
        await services.registry.remove(container, lambda cx: services.volumes.doom(cx, container.id, doomed))
        point("remove.row-deleted")
        container.state.status = "removing"
        container.drop_waiting()
        await self._discard(container, volumes=volumes)
        point("remove.discarded")
        services.publish(container, "destroy")
        container.announce_removal()

    async def _discard(self, container: Container, *, volumes: bool) -> None:
        """The data of a container whose row is gone. A failure here costs disk until the next start, not correctness."""
        services = self._services
        steps = await asyncio.gather(
            services.images.release_rootfs(container.id),
            services.networks.forget(container.id),
            self._mounting.release(container.id, container.record.mounts, with_volumes=volumes),
            asyncio.to_thread(self._remove_directories, container.id),
            return_exceptions=True,
        )
        for result in steps:
            if isinstance(result, BaseException):
                log.error("%s: removing its data", container.id, exc_info=result)

    def _remove_directories(self, container_id: str) -> None:
        for directory in (str(self._services.directory(container_id)), self._services.bundle(container_id)):
            shutil.rmtree(directory, ignore_errors=True)

    async def remove_link(self, reference: str) -> None:
        """`docker rm --link parent/alias`: from the next start on. Raises `NotFound`, `Conflict` for a container's own name."""
        path = reference.strip("/")
        parent = path.rpartition("/")[0]
        if not parent:
            self._services.registry.get(path)
            raise Conflict("Conflict, cannot remove the default link name of the container")
        try:
            container = self._services.registry.get(parent)
        except NotFound:
            raise NotFound(f"No such container: {path}") from None
        host = container.record.host_config
        host.links = without_link(host.links or [], path)
        await self._services.registry.save(container)

    async def auto_remove(self, container: Container) -> None:
        """For --rm: with the anonymous volumes."""
        await self.remove(container, force=True, volumes=True)

    async def prune(self, filters: Filters) -> Pruned:
        """Remove every stopped container that the filters (`until`, `label`, `label!`) let through."""
        filters.validate(("label", "label!", "until"))
        until = self._listing.until(filters)
        removed: list[str] = []
        size = 0
        for container in self._services.registry:
            if container.state.running or container.state.removing:
                continue
            if until is not None and container.record.created > until:
                continue
            labels = container.record.config.labels
            if not filters.labels(labels) or not filters.labels_absent(labels):
                continue
            try:
                taken = await self._listing.size_rw(container)
                await self.remove(container)
            except (Conflict, NotFound):
                continue
            removed.append(container.id)
            size += taken
        self._services.events.publish("container", "prune", "", {"reclaimed": str(size)})
        return Pruned(removed, size)
