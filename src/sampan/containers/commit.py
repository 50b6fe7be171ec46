"""`docker commit`: a container's writable layer and configuration as a new image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.containers.container import Container
from sampan.containers.merge import lay_over
from sampan.engineapi.container import ContainerConfig, wire
from sampan.errors import Conflict, SampanError
from sampan.images.interface import CommitRequest
from sampan.names.reference import familiar

if TYPE_CHECKING:
    from sampan.containers.lifecycle import Lifecycle
    from sampan.containers.services import Services


class CommitOptions(NamedTuple):
    """What the client asked for."""

    repository: str = ""
    tag: str = ""
    author: str = ""
    comment: str = ""
    pause: bool = True
    changes: tuple[str, ...] = ()
    config: ContainerConfig | None = None
    """Laid over the container's configuration, as that was over the image's."""


class Commit:
    """Commits containers."""

    def __init__(self, services: Services, lifecycle: Lifecycle) -> None:
        self._services = services
        self._lifecycle = lifecycle

    async def commit(self, container: Container, options: CommitOptions) -> str:
        """The new image's id. The container is paused meanwhile, if it runs and `pause` is set."""
        state = container.state
        if state.removing or state.status in ("removing", "dead"):
            raise Conflict(f"You cannot commit container {container.id} which is being removed")
        pause = options.pause and state.status == "running"
        if pause:
            state.resume_at_start = True
            try:
                await self._lifecycle.pause(container)
            except BaseException:
                state.resume_at_start = False
                raise
        try:
            image_id = await self._services.images.commit(
                container.id, await self._request(container, options)
            )
            reference = f"{options.repository}:{options.tag}" if options.tag else options.repository
            told = {"comment": options.comment, "imageID": image_id, "imageRef": familiar(reference)}
            self._services.publish(container, "commit", told)
        finally:
            if pause and state.status == "paused":
                await self._lifecycle.unpause(container)
        return image_id

    async def _request(self, container: Container, options: CommitOptions) -> CommitRequest:
        record = container.record
        try:
            image = await self._services.images.resolve(record.image_id)
        except SampanError:
            image = None
        config: dict[str, Any] = wire(record.config)
        if options.config is not None:
            lay_over(options.config, record.config)
            config = wire(options.config)
        return CommitRequest(
            image=image,
            config=config,
            repository=options.repository,
            tag=options.tag,
            author=options.author,
            comment=options.comment,
            changes=options.changes,
            container_config_cmd=(record.path, *record.args),
        )
