"""Containers whose log driver sends their output elsewhere: who has a shipper, and when it works."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from sampan.containers.log_options import attributes, log_path, tag_of
from sampan.errors import InvalidParameter, SystemFailure, reason_of
from sampan.logs.remote.drivers import REMOTE, starts_without_peer
from sampan.logs.remote.interface import Origin
from sampan.logs.shipping import Shipper

if TYPE_CHECKING:
    from sampan.containers.container import Container
    from sampan.containers.record import ContainerRecord
    from sampan.containers.services import Services

log = logging.getLogger(__name__)


class LogShipping:
    """The shippers of this engine's running containers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._shippers: dict[str, Shipper] = {}
        self._finishing: dict[str, asyncio.Task[None]] = {}

    async def prepare(self, container: Container) -> None:
        """Before a start: connect, so that a peer that cannot be reached refuses it, as dockerd does. Raises `SystemFailure`."""
        driver = container.record.host_config.log_config.type
        if driver not in REMOTE:
            return
        if before := self._finishing.get(container.id):
            await asyncio.wait([before])  # the last run's lines go first
        try:
            shipper = self._shipper(container.record)
        except InvalidParameter as error:
            raise SystemFailure(_refusal(error)) from None
        try:
            await shipper.connect()
        except OSError as error:
            if not starts_without_peer(driver, container.record.host_config.log_config.config or {}):
                await shipper.cancel()
                raise SystemFailure(_refusal(reason_of(error))) from error
        self._shippers[container.id] = shipper

    def begin(self, container: Container) -> None:
        """The container runs (it was started, or found running): send what it writes."""
        driver = container.record.host_config.log_config.type
        if driver not in REMOTE:
            return
        if container.id not in self._shippers:
            self._shippers[container.id] = self._shipper(container.record)
        self._shippers[container.id].begin()

    def end(self, container: Container) -> None:
        """It has ended, or was not started after all: the rest is sent in the background."""
        shipper = self._shippers.pop(container.id, None)
        if shipper is not None:
            task = asyncio.create_task(shipper.finish())
            self._finishing[container.id] = task
            task.add_done_callback(lambda _: self._finishing.pop(container.id, None))

    async def close(self) -> None:
        """The engine goes: its successor sends the rest of what runs on."""
        shippers = list(self._shippers.values())
        self._shippers.clear()
        await asyncio.gather(*self._finishing.values(), *(shipper.cancel() for shipper in shippers))

    def _shipper(self, record: ContainerRecord) -> Shipper:
        directory = self._services.directory(record.id)
        config = record.host_config.log_config
        sink = REMOTE[config.type].sink(config.config or {}, origin(record))
        path = str(log_path(record, directory))
        return Shipper(record.id[:12], "local", path, directory / "remote-log.position", sink)


def origin(record: ContainerRecord) -> Origin:
    """A container as its log's receiver sees it."""
    return Origin(
        container_id=record.id,
        container_name=record.name,
        image_id=record.image_id,
        image_name=record.config.image,
        command=" ".join([record.path, *record.args]),
        created_ns=record.created,
        hostname=socket.gethostname(),
        tag=tag_of(record, "{{.ID}}"),
        attributes=attributes(record),
    )


def _refusal(reason: object) -> str:
    return f"failed to create task for container: failed to initialize logging driver: {reason}"
