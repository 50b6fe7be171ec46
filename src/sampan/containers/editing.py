"""What can be changed of a container that exists: its name, its limits, its restart policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.containers.container import Container
from sampan.containers.host import host_features
from sampan.containers.spec_resources import oci_resources
from sampan.containers.starting import container_name
from sampan.containers.validate import validate_restart_policy
from sampan.containers.validate_resources import validate_resources
from sampan.engineapi.container import HostConfig, Resources, UpdateRequest
from sampan.errors import Conflict, InvalidParameter, SampanError

if TYPE_CHECKING:
    from sampan.containers.services import Services
    from sampan.oci import runtime as oci

_UPDATABLE = (
    "cpu_shares", "memory", "nano_cpus", "blkio_weight", "cpu_period", "cpu_quota", "cpu_realtime_period",
    "cpu_realtime_runtime", "cpuset_cpus", "cpuset_mems", "memory_reservation", "memory_swap", "pids_limit",
    "blkio_weight_device", "blkio_device_read_bps", "blkio_device_write_bps", "blkio_device_read_iops",
    "blkio_device_write_iops",
)  # fmt: skip


class Editing:
    """Rename and update."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def rename(self, container: Container, new_name: str) -> None:
        """Raises `InvalidParameter` for an impossible name or the present one, `Conflict` for a taken one."""
        services = self._services
        wanted = new_name.removeprefix("/")
        if not wanted:
            raise InvalidParameter("Neither old nor new names may be empty")
        async with container.lock:
            old = container.name
            if wanted == old:
                raise InvalidParameter("Renaming a container with the same name as its current name")
            try:
                services.registry.reserve_name("/" + wanted, container.id)
            except (Conflict, InvalidParameter) as error:
                raise type(error)(f"Error when allocating new name: {error}") from None
            container.record.name = wanted
            try:
                await services.registry.save(container)
                await services.networks.rename(container_name(container))
            except BaseException:
                container.record.name = old
                services.registry.release_name(wanted, container.id)
                raise
            services.registry.release_name(old, container.id)
        services.publish(container, "rename", {"oldName": "/" + old})

    async def update(self, container: Container, request: UpdateRequest) -> list[str]:
        """Change limits and restart policy, of a running container at once; returns the warnings.

        Raises `InvalidParameter` and `Conflict`; nothing is changed then.
        """
        host = container.record.host_config
        if container.state.removing or container.state.status == "dead":
            raise Conflict('container is marked for removal and cannot be "update".')
        async with container.lock:
            warnings = self._check(container, request)
            before = {name: getattr(host, name) for name in _UPDATABLE}
            policy = host.restart_policy
            self._apply(host, request)
            try:
                if container.shim is not None and container.state.alive:
                    await container.shim.update(_at_once(host))
            except BaseException as error:
                for name, value in before.items():
                    setattr(host, name, value)
                host.restart_policy = policy
                if isinstance(error, SampanError):
                    raise type(error)(f"Cannot update container {container.id}: {error}") from error
                raise
            await self._services.registry.save(container)
        self._services.publish(container, "update")
        return warnings

    @staticmethod
    def _check(container: Container, request: UpdateRequest) -> list[str]:
        """Against the limits in force: a new memory limit must fit the old swap limit, and the other way round.

        What is wrong by itself is an invalid parameter, what does not fit the container a conflict. Warnings are about the
        request alone.
        """
        features = host_features()
        if request.restart_policy.name:
            validate_restart_policy(request.restart_policy)
        warnings = validate_resources(request, features, update=True)
        try:
            _check_against(container.record.host_config, request)
        except InvalidParameter as error:
            raise Conflict(f"Cannot update container {container.id}: {error}") from None
        return warnings

    @staticmethod
    def _apply(host: HostConfig, request: UpdateRequest) -> None:
        for name in _UPDATABLE:
            setattr(host, name, _new(host, request, name))
        if request.restart_policy.name:
            host.restart_policy = request.restart_policy


def _at_once(host: HostConfig) -> oci.Resources:
    """What a running container is given. Real-time figures wait for its next start, as in Docker."""
    resources = oci_resources(host)
    for name in ("realtimePeriod", "realtimeRuntime"):
        resources.get("cpu", {}).pop(name, None)  # type: ignore[misc]
    return resources


def _check_against(host: HostConfig, request: UpdateRequest) -> None:
    """Raises `InvalidParameter` where the request cannot stand beside what the container has."""
    if host.auto_remove and request.restart_policy.name not in ("", "no"):
        raise InvalidParameter(
            "Restart policy cannot be updated because AutoRemove is enabled for the container"
        )
    if request.nano_cpus > 0 and (host.cpu_period > 0 or host.cpu_quota > 0):
        raise InvalidParameter(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"
            if host.cpu_period > 0
            else "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"
        )
    if host.nano_cpus > 0 and (request.cpu_period > 0 or request.cpu_quota > 0):
        raise InvalidParameter(
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"
            if request.cpu_period > 0
            else "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"
        )
    if request.memory and not request.memory_swap and request.memory > host.memory_swap:
        raise InvalidParameter(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )


def _new(host: HostConfig, request: Resources, name: str) -> object:
    """The requested value, or the present one where nothing was requested (zero, empty, null)."""
    value = getattr(request, name)
    keep = (
        value is None
        if name == "pids_limit" or name.startswith(("blkio_weight_d", "blkio_device"))
        else not value
    )
    if name == "pids_limit" and not keep and value <= 0:
        return 0  # shown as such, whatever way "unlimited" was said
    return getattr(host, name) if keep else value
