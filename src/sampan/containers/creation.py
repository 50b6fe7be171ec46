"""`docker create`: from a request to a container that can be started.

Everything that can be refused is refused before anything is made. What is made (name, snapshot, directory, volumes, endpoints) is
taken back when a later step fails. The row is written last: a crash before it leaves only garbage, which recovery removes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sampan.containers import apparmor, modes
from sampan.containers.container import Container
from sampan.containers.host import host_features
from sampan.containers.links import DEPRECATED, parse_link
from sampan.containers.log_options import log_path, merge_log_config
from sampan.containers.merge import command, image_defaults, merge_image
from sampan.containers.record import ContainerRecord, MountRecord, RunState
from sampan.containers.security import parse_security_options
from sampan.containers.starting import container_name
from sampan.containers.validate import (
    validate_config,
    validate_host_config,
    validate_network_conflicts,
    validate_remapped,
)
from sampan.engineapi.network import EndpointSettings
from sampan.errors import Conflict, InvalidParameter, NotFound, SampanError, SystemFailure, reason_of
from sampan.faults import point
from sampan.names import platform as platforms
from sampan.names.names import new_id, random_name
from sampan.oci import defaults

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sampan.containers.mounts import Mounting
    from sampan.containers.services import Services
    from sampan.engineapi.container import ContainerConfig, HostConfig
    from sampan.images.interface import ResolvedImage
    from sampan.names.platform import Platform

log = logging.getLogger(__name__)


class Created(NamedTuple):
    """What the client learns."""

    id: str
    warnings: list[str]


class CreateRequest(NamedTuple):
    """What the client asked for."""

    name: str
    """"" picks one."""
    config: ContainerConfig
    host_config: HostConfig
    endpoints: Mapping[str, EndpointSettings]
    platform: Platform | None = None


class Creation:
    """Makes containers."""

    def __init__(self, services: Services, mounting: Mounting) -> None:
        self._services = services
        self._mounting = mounting

    async def create(self, request: CreateRequest) -> Created:
        """Raises `InvalidParameter`, `NotFound` (image), `Conflict` (name) in dockerd's words."""
        services = self._services
        config, host = request.config, request.host_config
        warnings = self._check(config, host)
        image = await services.images.resolve(config.image, request.platform) if config.image else None
        if image is not None:
            self._check_platform(image, request.platform, warnings)
            merge_image(config, image_defaults(image.config.config))
        elif not config.entrypoint and not config.cmd:
            raise InvalidParameter("no command specified")
        validate_config(config)
        container_id = new_id()
        mounts = self._mounting.plan(config, host)
        endpoints = endpoints_of(config, host, request.endpoints)
        name = self._reserve(request.name, container_id)
        try:
            record = self._record(container_id, name, config, host, image)
            container = Container(record, RunState())
            await self._make(container, image, mounts, endpoints)
        except BaseException:
            services.registry.release_name(name, container_id)
            await self._take_back(container_id, mounts)
            raise
        services.publish(container, "create")
        return Created(container_id, warnings)

    def confined(self, id: str, config: ContainerConfig, host: HostConfig) -> ContainerRecord:
        """The record of what runs once under `id` and is no container: checked and completed as one, and not kept."""
        self._check(config, host)
        return self._record(id, id[:12], config, host, None)

    def _check(self, config: ContainerConfig, host: HostConfig) -> list[str]:
        settings = self._services.settings
        if host.network_mode in ("", "default"):
            host.network_mode = "bridge"
        validate_network_conflicts(config, host)
        validate_config(config)
        host.log_config = merge_log_config(host.log_config, settings.log_driver, settings.log_opts)
        warnings = validate_host_config(host, host_features(), settings.runtimes)
        if settings.remapping_of(host) is not None:
            validate_remapped(host)
        self._adapt(host)
        for link in host.links or () if host.network_mode == "bridge" else ():
            target, _ = parse_link(link)
            try:
                self._services.registry.get(target)
            except NotFound as error:
                # Not as NotFound: the client would take the image for missing, and pull it.
                raise InvalidParameter(f"could not get container for {target}: {error}") from None
        if host.links and host.network_mode == "bridge":
            warnings.append(DEPRECATED)
        return warnings

    def _adapt(self, host: HostConfig) -> None:
        """Defaults that dockerd writes into the host configuration, and ids in place of names."""
        settings, features = self._services.settings, host_features()
        if host.memory > 0 and host.memory_swap == 0:
            host.memory_swap = host.memory * 2
        host.shm_size = host.shm_size or settings.default_shm_size
        host.ipc_mode = host.ipc_mode or settings.default_ipc_mode
        host.runtime = host.runtime or settings.default_runtime
        host.restart_policy.name = host.restart_policy.name or "no"
        if not host.cgroupns_mode:
            private = features.unified and settings.default_cgroupns_mode in ("", "private")
            if settings.default_cgroupns_mode == "private" and not host.privileged:
                private = True
            host.cgroupns_mode = "private" if private else "host"
        if host.oom_kill_disable is None and features.oom_kill_disable:
            host.oom_kill_disable = False
        if host.pids_limit is not None and host.pids_limit <= 0:
            host.pids_limit = None
        host.port_bindings = host.port_bindings or {}
        shares_host = host.privileged or host.pid_mode == "host" or host.ipc_mode == "host"
        if shares_host and not any(each.partition("=")[0] == "label" for each in host.security_opt or ()):
            host.security_opt = [*(host.security_opt or ()), "label=disable"]
        if host.privileged:
            host.masked_paths = host.readonly_paths = None
        else:
            host.masked_paths = defaults.masked_paths() if host.masked_paths is None else host.masked_paths
            if host.readonly_paths is None:
                host.readonly_paths = defaults.readonly_paths()
        for field in ("network_mode", "ipc_mode", "pid_mode"):
            reference = modes.shared_container(getattr(host, field))
            if reference is None:
                continue
            try:
                setattr(host, field, modes.container_mode(self._services.registry.get(reference).id))
            except SampanError as error:
                if field == "network_mode":
                    continue  # as dockerd, which looks for it at the start
                raise InvalidParameter(f"No such container: {reference}") from error

    @staticmethod
    def _check_platform(image: ResolvedImage, wanted: Platform | None, warnings: list[str]) -> None:
        if wanted is not None:
            return
        host = platforms.local()
        if (image.platform.os, image.platform.architecture) != (host.os, host.architecture):
            warnings.append(
                f"The requested image's platform ({_platform(image.platform)}) does not match the detected host"
                f" platform ({_platform(host)}) and no specific platform was requested"
            )

    def _reserve(self, wanted: str, container_id: str) -> str:
        registry = self._services.registry
        if wanted:
            return registry.reserve_name(wanted, container_id)
        for attempt in range(8):
            try:
                return registry.reserve_name(random_name(attempt), container_id)
            except Conflict:
                continue
        return registry.reserve_name(container_id[:12], container_id)

    def _record(
        self,
        container_id: str,
        name: str,
        config: ContainerConfig,
        host: HostConfig,
        image: ResolvedImage | None,
    ) -> ContainerRecord:
        if not config.hostname and modes.shared_container(host.network_mode) is None:
            host_name = host.network_mode == "host" or host.uts_mode == "host"
            config.hostname = socket.gethostname() if host_name else container_id[:12]
        path, args = command(config)
        labels = parse_security_options(host.security_opt or ())
        return ContainerRecord(
            id=container_id,
            name=name,
            created=self._services.clock(),
            image_id=image.id if image else "",
            manifest=_manifest(image) if image else None,
            platform=image.platform.os if image else "linux",
            path=path,
            args=args,
            config=config,
            host_config=host,
            app_armor_profile=apparmor.profile_of(labels.apparmor, privileged=host.privileged),
        )

    async def _make(
        self,
        container: Container,
        image: ResolvedImage | None,
        mounts: list[MountRecord],
        endpoints: Mapping[str, EndpointSettings],
    ) -> None:
        services = self._services
        if image is None:
            raise (
                InvalidParameter("no command specified")
                if not container.record.path
                else InvalidParameter("a container needs an image")
            )
        await asyncio.gather(
            services.images.prepare_rootfs(container.id, image),
            asyncio.to_thread(self._make_directory, container),
        )
        point("create.root-prepared")
        container.record.mounts = await self._mounting.create(container, mounts)
        point("create.volumes-made")
        if endpoints:
            try:
                await services.networks.configure(container_name(container), endpoints)
            except InvalidParameter as error:
                raise InvalidParameter(
                    f"invalid config for network {', '.join(endpoints)}: {error}"
                ) from None
        point("create.endpoints-stored")
        await services.registry.add(container, lambda cx: services.volumes.keep(cx, container.id))
        point("create.row-written")

    def _make_directory(self, container: Container) -> None:
        """The container's own directory; the files in it are mounted into the container and written at its start."""
        directory = self._services.directory(container.id)
        try:
            self._fill_directory(container, directory)
        except OSError as error:
            raise SystemFailure(f"{error.filename or directory}: {reason_of(error)}") from error

    def _fill_directory(self, container: Container, directory: Path) -> None:
        directory.mkdir(mode=0o710, parents=True)
        for name in ("hosts", "resolv.conf"):
            (directory / name).touch(mode=0o644)
        log_path(container.record, directory).parent.mkdir(exist_ok=True)
        (directory / "hostname").write_text(f"{container.record.config.hostname}\n")
        if (remapping := self._services.settings.remapping_of(container.record.host_config)) is not None:
            for name in ("hosts", "resolv.conf", "hostname"):
                os.chown(directory / name, *remapping.root)

    async def _take_back(self, container_id: str, mounts: list[MountRecord]) -> None:
        """`mounts`: those whose volume was made have its name by now."""
        made = [mount for mount in mounts if mount.name]
        services = self._services
        for step in (
            services.images.release_rootfs(container_id),
            services.networks.forget(container_id),
            self._mounting.release(container_id, made, with_volumes=True),
        ):
            try:
                await step
            except SampanError:
                log.exception("%s: taking back a failed create", container_id)
        await asyncio.to_thread(shutil.rmtree, services.directory(container_id), ignore_errors=True)


def _manifest(image: ResolvedImage) -> dict[str, Any]:
    """`ImageManifestDescriptor`: the image's descriptor with the platform that was chosen."""
    descriptor: dict[str, Any] = msgspec.to_builtins(image.descriptor)
    platform = {"architecture": image.platform.architecture, "os": image.platform.os}
    if image.platform.variant:
        platform["variant"] = image.platform.variant
    return {**descriptor, "platform": platform}


def endpoints_of(
    config: ContainerConfig, host: HostConfig, requested: Mapping[str, EndpointSettings]
) -> dict[str, EndpointSettings]:
    """The networks to connect: those of the request and the one of the network mode."""
    mode = host.network_mode
    endpoints = {("bridge" if name == "default" else name): settings for name, settings in requested.items()}
    if config.network_disabled:
        return {}
    if modes.shared_container(mode) is not None:
        if any(modes.shared_container(name) is None for name in endpoints):
            raise InvalidParameter(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
            )
        return {}
    if mode in ("host", "none") and any(name != mode for name in endpoints):
        raise InvalidParameter(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        )
    primary = endpoints.get(mode) or EndpointSettings()
    if config.mac_address and not primary.mac_address:
        primary.mac_address = config.mac_address
    return {mode: primary, **{name: settings for name, settings in endpoints.items() if name != mode}}


def _platform(platform: Platform) -> str:
    parts = (platform.os, platform.architecture, platform.variant)
    return "/".join(part for part in parts if part)
