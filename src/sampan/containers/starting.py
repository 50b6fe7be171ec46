"""From a stopped container to a running one.

The steps, with the container's lock held::

    mounts, user, spec      prepared from the record
    launch                  shim and init exist, init waits;
      network               meanwhile configured from outside through the shim's sockets
    attach                  clients that attached before the start are connected: they see the first byte
    start                   init executes the program

A failure at any step undoes the steps before it and leaves dockerd's error and exit code in the state.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.containers import apparmor, cdi, kept_sockets, modes
from sampan.containers.container import Container
from sampan.containers.init_program import run_under_init
from sampan.containers.launch_errors import StartFailure, start_failure
from sampan.containers.links import parse_link
from sampan.containers.log_options import shim_log
from sampan.containers.mounts import Mounting
from sampan.containers.services import Services
from sampan.containers.spec import SharedNamespaces, SpecContext, build_spec
from sampan.errors import Conflict, InvalidParameter, NotFound, SampanError
from sampan.faults import point
from sampan.networks.interface import ContainerName, SandboxFiles, SandboxRequest
from sampan.runtime.interface import ContainerLaunch, LaunchError, Sandbox, Shim

if TYPE_CHECKING:
    from sampan.containers.exits import Exits
    from sampan.containers.health import HealthChecks
    from sampan.containers.log_shipping import LogShipping
    from sampan.oci.runtime import Mount, Spec

log = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
EXIT_UNKNOWN = 128
"""dockerd's exit code of a container that could not be started for no reason of its program."""


def boot_id() -> str:
    """Identifies this run of the kernel."""
    return _BOOT_ID.read_text().strip()


class Starting:
    """Starts containers; `exits` takes over once they run."""

    def __init__(
        self,
        services: Services,
        mounting: Mounting,
        exits: Exits,
        health: HealthChecks,
        shipping: LogShipping,
    ) -> None:
        self._services = services
        self._mounting = mounting
        self._exits = exits
        self._shipping = shipping
        self._health = health
        self._boot_id = boot_id()

    async def start(self, container: Container, *, by_policy: bool = False) -> None:
        """Start it; the lock is held. `by_policy`: a restart, which keeps the restart count.

        Raises `Conflict` while it is being removed, `StartFailure` (400 or 500) when it cannot run.
        """
        state = container.state
        if state.removing or state.status in ("removing", "dead"):
            raise Conflict("container is marked for removal and cannot be started")
        state.error = state.reason = ""
        try:
            await self._launch(container, by_policy=by_policy)
        except (SampanError, LaunchError, OSError) as error:
            failure = start_failure(error)
            await self._record_failure(container, failure)
            raise failure from error

    async def _record_failure(self, container: Container, failure: StartFailure) -> None:
        state = container.state
        state.status = "exited" if state.started_at else "created"
        state.exit_code = failure.exit_code
        state.error = str(failure)
        state.reason = failure.reason
        state.pid = 0
        await self._services.registry.keep_state(container)

    async def _launch(self, container: Container, *, by_policy: bool) -> None:
        services, record = self._services, container.record
        if container.shim is not None:
            await container.shim.close()
            container.shim = None
        rootfs = await services.images.rootfs_mounts(container.id)
        remapping = services.settings.remapping_of(record.host_config)
        if remapping is not None:
            rootfs = remapping.mapped(rootfs)
        shared = self._shared_namespaces(container)
        self._take_over_hostname(container)
        await apparmor.ensure_loaded(services.workers, record.app_armor_profile)
        mounts = await self._mounting.mount(container)
        shim: Shim | None = None
        try:
            point("start.mounted")
            spec = build_spec(record, self._context(container, mounts, shared))
            if record.host_config.device_requests:
                await asyncio.to_thread(
                    cdi.inject, spec, record.host_config.device_requests, services.settings.cdi_spec_dirs
                )
            launch = self._launch_request(container, spec, rootfs)
            await self._shipping.prepare(container)
            private = launch["private_network"]
            shim = await services.launcher.launch(
                launch, configure=partial(self._join_network, container) if private else None
            )
            point("start.launched")
            if not private:
                await self._join_network(container, None)
            point("start.network-joined")
            await container.connect_waiting(shim)
            await self._run(container, shim, by_policy=by_policy)
        except BaseException:
            await self._undo(container, shim)
            raise

    async def _run(self, container: Container, shim: Shim, *, by_policy: bool) -> None:
        """Let init execute the program; from here on the container runs."""
        services, state = self._services, container.state
        if not by_policy:
            state.restart_count = 0
            state.stopped_by_user = False
            container.restart_delay = 0.0
        before = state.status
        state.status = "running"
        state.pid = shim.init_pid
        state.boot_id = self._boot_id
        state.started_at = services.clock()
        state.exit_code = 0
        state.oom_killed = False
        state.health = self._health.initial(container)
        saved = asyncio.ensure_future(services.registry.save_state(container))
        try:
            await shim.start()
        except BaseException:
            state.status = before
            await saved
            raise
        point("start.program-started")
        kept = asyncio.ensure_future(kept_sockets.entrust(services, container.id, shim))
        container.shim = shim
        services.publish(container, "start")
        self._exits.watch(container, shim)
        self._health.begin(container)
        await asyncio.gather(saved, kept)
        point("start.state-written")

    async def _undo(self, container: Container, shim: Shim | None) -> None:
        """Take back what a failed start has made; problems here are logged, the first error is what counts."""
        services = self._services
        self._shipping.end(container)
        if shim is not None:
            try:
                await shim.close()
            except (SampanError, OSError):
                log.exception("%s: the shim of a failed start did not close", container.id)
        container.shim = None
        try:
            await services.networks.leave(container.id)
        except SampanError:
            log.exception("%s: a failed start did not leave its networks", container.id)
        finally:
            await self._mounting.unmount(container)

    def _launch_request(self, container: Container, spec: Spec, rootfs: list[Mount]) -> ContainerLaunch:
        record, settings = container.record, self._services.settings
        config, host = record.config, record.host_config
        launch: ContainerLaunch = {
            "id": record.id,
            "bundle": self._services.bundle(record.id),
            "spec": spec,
            "rootfs": rootfs,
            "stdio": {
                "tty": config.tty,
                "open_stdin": config.open_stdin,
                "stdin_once": config.stdin_once,
            },
            "log": shim_log(record, self._services.directory(record.id)),
            "private_network": modes.network_is_private(host.network_mode),
            "init": settings.init if host.init is None else host.init,
            "user": config.user,
            "groups": list(host.group_add or ()),
        }
        name = host.runtime or settings.default_runtime
        if name not in settings.runtimes:  # it was when the container was created
            raise InvalidParameter(f"unknown or invalid runtime name: {name}")
        program = settings.runtimes[name]
        if program:
            launch["runtime"] = list(program)
            if launch["init"]:
                launch["spec"] = run_under_init(spec, settings.init_path)
        return launch

    def _context(self, container: Container, mounts: list[Mount], shared: SharedNamespaces) -> SpecContext:
        settings = self._services.settings
        return SpecContext(
            mounts=mounts,
            shared=shared,
            shm=self._mounting.shm(container, self._ipc_donor(container)),
            cgroup_parent=settings.cgroup_parent,
            remapping=settings.remapping_of(container.record.host_config),
            default_ulimits=settings.default_ulimits,
            default_no_new_privileges=settings.no_new_privileges,
            seccomp_default=settings.seccomp_profile,
        )

    # --- namespaces of other containers ------------------------------------------------------------------------------

    def _shared_namespaces(self, container: Container) -> SharedNamespaces:
        host = container.record.host_config
        return SharedNamespaces(
            network=self._donor_pid(container, host.network_mode, "network"),
            ipc=self._donor_pid(container, host.ipc_mode, "IPC"),
            pid=self._donor_pid(container, host.pid_mode, "PID"),
        )

    def _donor(self, container: Container, mode: str, what: str) -> Container | None:
        reference = modes.shared_container(mode)
        if reference is None:
            return None
        try:
            donor = self._services.registry.get(reference)
        except NotFound:
            if what == "network":
                raise Conflict(
                    f"joining network namespace of container: No such container: {reference}"
                ) from None
            raise InvalidParameter(f"No such container: {reference}") from None
        if donor is container:
            raise InvalidParameter(f"cannot join own {what} namespace")
        return donor

    def _donor_pid(self, container: Container, mode: str, what: str) -> int:
        donor = self._donor(container, mode, what)
        if donor is None:
            return 0
        if donor.state.status == "restarting":
            raise Conflict(f"Container {donor.id} is restarting, wait until the container is running")
        if not donor.state.alive or donor.shim is None:
            if what == "network":
                raise Conflict(
                    "cannot join network namespace of a non running container:"
                    f" container {donor.name} is {donor.state.status}"
                )
            raise Conflict(f"failed to join {what} namespace: container {donor.id} is not running")
        if what == "IPC" and donor.record.host_config.ipc_mode not in ("shareable", "host"):
            raise Conflict(
                f"failed to join IPC namespace: container {donor.id}: non-shareable IPC"
                " (hint: use IpcMode:shareable for the donor container)"
            )
        return donor.shim.init_pid

    def _take_over_hostname(self, container: Container) -> None:
        """Who shares a network shares its name: /etc/hosts and /etc/hostname are the other container's."""
        donor = self._donor(container, container.record.host_config.network_mode, "network")
        if donor is not None:
            container.record.config.hostname = donor.record.config.hostname
            container.record.config.domainname = donor.record.config.domainname

    def _ipc_donor(self, container: Container) -> Container | None:
        return self._donor(container, container.record.host_config.ipc_mode, "IPC")

    # --- network -----------------------------------------------------------------------------------------------------

    async def _join_network(self, container: Container, sandbox: Sandbox | None) -> None:
        """`sandbox`: None for a container in the host's or another one's network."""
        if modes.shared_container(container.record.host_config.network_mode) is not None:
            return
        request = sandbox_request(self._services, container)
        await self._services.networks.join(with_sandbox(request, sandbox))


def container_name(container: Container) -> ContainerName:
    """A container as the network service knows it."""
    return ContainerName(container.id, container.name, container.record.config.hostname)


def sandbox_files(services: Services, container_id: str) -> SandboxFiles:
    """The container's own hosts, resolv.conf and hostname."""
    directory = services.directory(container_id)
    return SandboxFiles(directory / "hosts", directory / "resolv.conf", directory / "hostname")


def with_sandbox(request: SandboxRequest, sandbox: Sandbox | None) -> SandboxRequest:
    """The request for a sandbox that exists now."""
    return dataclasses.replace(request, sandbox=sandbox)


def sandbox_request(services: Services, container: Container) -> SandboxRequest:
    """Everything of a container that decides its network; the sandbox itself is added when it exists."""
    record, settings = container.record, services.settings
    host, config = record.host_config, record.config
    return SandboxRequest(
        container=container_name(container),
        sandbox=None,
        files=sandbox_files(services, container.id),
        domainname=config.domainname,
        exposed=tuple(config.exposed_ports or ()),
        published=dict(host.port_bindings or {}),
        publish_all=host.publish_all_ports,
        dns=tuple(host.dns or settings.dns),
        dns_search=tuple(host.dns_search or settings.dns_search),
        dns_options=tuple(host.dns_options or settings.dns_options),
        extra_hosts=tuple(host.extra_hosts or ()),
        links=_links(services, record.name, (host.links or ()) if host.network_mode == "bridge" else ()),
    )


def _links(
    services: Services, name: str, links: list[str] | tuple[()]
) -> tuple[tuple[ContainerName, str, tuple[str, ...]], ...]:
    found = []
    for link in links:
        target, alias = parse_link(link)
        try:
            other = services.registry.get(target)
        except NotFound as error:
            raise NotFound(f"could not get container for {target}: {error}") from None
        if not other.state.alive:
            raise Conflict(f"Cannot link to a non running container: /{other.name} AS /{name}/{alias}")
        found.append((container_name(other), alias, tuple(other.record.config.exposed_ports or ())))
    return tuple(found)
