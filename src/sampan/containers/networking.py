"""`docker network connect` and `disconnect`: a container and its networks, running or not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sampan.containers import kept_sockets, modes
from sampan.containers.starting import container_name
from sampan.errors import Conflict, InvalidParameter
from sampan.networks.validate import PREDEFINED

if TYPE_CHECKING:
    from sampan.containers.container import Container
    from sampan.containers.services import Services
    from sampan.engineapi.network import EndpointSettings
    from sampan.runtime.interface import Sandbox


async def connect(services: Services, container: Container, network: str, settings: EndpointSettings) -> None:
    """Put a container on a network. Raises with dockerd's words."""
    async with _held(container) as sandbox:
        mode = container.record.host_config.network_mode
        if modes.shared_container(mode) is not None or (mode == "host" and network not in PREDEFINED):
            raise InvalidParameter(
                "container sharing network namespace with another container or host cannot be connected to any other network"
            )
        await services.networks.connect(container_name(container), network, settings, sandbox=sandbox)
        if container.shim is not None:
            await kept_sockets.replace(services, container.id, container.shim)


async def disconnect(services: Services, container: Container, network: str, *, force: bool) -> None:
    """Take a container from a network. Raises with dockerd's words."""
    async with _held(container) as sandbox:
        await services.networks.disconnect(container_name(container), network, sandbox=sandbox, force=force)
        if container.shim is not None:
            await kept_sockets.replace(services, container.id, container.shim)


@asynccontextmanager
async def _held(container: Container) -> AsyncIterator[Sandbox | None]:
    """Keep the container from starting, stopping and going away; its sandbox, where it runs with a network of its own."""
    async with container.lock:
        if container.state.status in ("dead", "removing"):
            raise Conflict(
                f"container {container.id} is marked for removal and cannot be connected or disconnected to a network"
            )
        shim = container.shim
        private = modes.network_is_private(container.record.host_config.network_mode)
        if shim is None or not container.state.alive or not private:
            yield None
            return
        sandbox = await shim.sandbox()
        try:
            yield sandbox
        finally:
            for descriptor in sandbox:
                os.close(descriptor)
