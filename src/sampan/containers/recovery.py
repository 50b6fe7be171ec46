"""What the engine does about containers when it starts, and when it leaves.

At a start: containers that still run are adopted; for those that ended meanwhile the exit that their shim recorded is
applied; those that ran when the machine went down exited with 255; half-done work is undone or finished; then restart
policies are applied.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import shutil
from typing import TYPE_CHECKING

from sampan.containers import kept_sockets, modes, restart_policy
from sampan.containers.container import Container
from sampan.containers.mounts import Mounting, unpin
from sampan.containers.starting import boot_id, sandbox_request, with_sandbox
from sampan.errors import NotFound, SampanError
from sampan.runtime.interface import ExitStatus, Sandbox, Shim

if TYPE_CHECKING:
    from pathlib import Path

    from sampan.containers.exits import Exits
    from sampan.containers.health import HealthChecks
    from sampan.containers.lifecycle import Lifecycle
    from sampan.containers.removal import Removal
    from sampan.containers.services import Services
    from sampan.networks.interface import SandboxRequest

log = logging.getLogger(__name__)

_AT_ONCE = 16
"""Containers that are recovered, restarted or stopped at the same time."""

LOST_AT_REBOOT = 255


class Recovery:
    """Run `recover` once after everything is open, `shut_down` once before it is closed."""

    def __init__(
        self,
        services: Services,
        mounting: Mounting,
        exits: Exits,
        health: HealthChecks,
        lifecycle: Lifecycle,
        removal: Removal,
    ) -> None:
        self._services = services
        self._mounting = mounting
        self._exits = exits
        self._health = health
        self._lifecycle = lifecycle
        self._removal = removal
        self._boot_id = boot_id()

    async def recover(self) -> None:
        """Bring every container of the database to a true state."""
        services = self._services
        await services.registry.load()
        running = await self._adopt_all()
        await self._tell_volumes()
        await services.networks.forget_others({container.id for container in services.registry})
        await self._restore_networks(running)
        for container, _ in running:
            assert container.shim is not None
            self._exits.watch(container, container.shim)
            self._health.begin(container)
        await asyncio.to_thread(self._remove_garbage)
        await self._finish_removals()

    async def _restore_networks(self, running: list[tuple[Container, Sandbox | None]]) -> None:
        networks = self._services.networks
        try:
            await networks.restore([await self._restore_request(*each) for each in running])
        finally:
            for _, sandbox in running:
                for descriptor in sandbox or ():
                    os.close(descriptor)
        for container, _ in running:
            assert container.shim is not None
            # Those that had to be made anew are the shim's to keep too.
            await kept_sockets.entrust(self._services, container.id, container.shim)

    async def _restore_request(self, container: Container, sandbox: Sandbox | None) -> SandboxRequest:
        assert container.shim is not None
        request = with_sandbox(sandbox_request(self._services, container), sandbox)
        kept = await kept_sockets.take_back(container.shim) if sandbox is not None else {}
        return dataclasses.replace(request, kept=kept)

    async def _adopt_all(self) -> list[tuple[Container, Sandbox | None]]:
        """Adopt what lives; the others get their true exit. The adopted ones with their sandboxes (None for shared networks)."""
        turns = asyncio.Semaphore(_AT_ONCE)
        adopted: list[tuple[Container, Sandbox | None]] = []

        async def one(container: Container) -> None:
            async with turns:
                try:
                    if await self._adopt(container):
                        assert container.shim is not None
                        private = modes.network_is_private(container.record.host_config.network_mode)
                        adopted.append((container, await container.shim.sandbox() if private else None))
                except Exception:
                    log.exception("%s: recovery failed", container.id)

        # Only those that had a process, or whose shim's directory is there, need a look: start-up must not grow with the others.
        bundles = await asyncio.to_thread(_names, self._services.settings.exec_root / "shims")
        await asyncio.gather(*(one(c) for c in self._services.registry if c.state.running or c.id in bundles))
        return adopted

    async def _tell_volumes(self) -> None:
        used: dict[str, list[str]] = {}
        mounted: dict[str, list[str]] = {}
        for container in self._services.registry:
            names = [mount.name for mount in container.record.mounts if mount.type == "volume"]
            if names:
                used[container.id] = names
                if container.state.alive:
                    mounted[container.id] = names
        await self._services.volumes.recover(used, mounted)

    async def _adopt(self, container: Container) -> bool:
        state, services = container.state, self._services
        recorded = await services.launcher.exit_record(container.id)
        shim = await services.launcher.adopt(container.id)
        if shim is not None and recorded is None and state.alive and state.boot_id == self._boot_id:
            container.shim = shim
            await self._agree_on_pause(container, shim)
            return True
        if shim is not None:
            await shim.close()  # it ended, or its start was never acknowledged
        if state.running:
            await self._record_exit(container, recorded)
        return False

    async def _agree_on_pause(self, container: Container, shim: Shim) -> None:
        """The processes are frozen exactly when the state says so: a pause or its end that was not acknowledged is undone."""
        state = container.state
        if state.status == "paused" and state.resume_at_start:
            state.status, state.resume_at_start = "running", False
            await self._services.registry.save_state(container)
        try:
            await (shim.pause() if state.status == "paused" else shim.resume())
        except (SampanError, OSError) as error:
            log.warning("%s: its processes are not %s: %s", container.id, state.status, error)

    async def _record_exit(self, container: Container, recorded: ExitStatus | None) -> None:
        state, services = container.state, self._services
        rebooted = state.boot_id != self._boot_id
        if recorded is None and state.status != "restarting":
            code = LOST_AT_REBOOT if rebooted else 137
            reason = "the machine went down while it ran" if rebooted else "shim lost"
            recorded = ExitStatus(code, services.clock(), False, reason)
        if recorded is not None:
            state.exit_code = recorded.code
            state.finished_at = recorded.at_ns
            state.oom_killed = recorded.oom_killed
            state.reason = recorded.reason
        state.status = "exited"
        state.pid = 0
        await self._mounting.unmount(container)
        await services.registry.save_state(container)

    def _remove_garbage(self) -> None:
        """Directories and pinned mounts whose container has no row (or does not run)."""
        settings, registry = self._services.settings, self._services.registry
        pins = settings.exec_root / "mounts"
        for name in os.listdir(pins) if pins.is_dir() else ():
            container = registry.by_id(name)
            if container is None or not container.state.alive:
                unpin(str(pins / name))
        if not settings.root.is_dir():
            return
        for name in os.listdir(settings.root):
            if registry.by_id(name) is None:
                shutil.rmtree(settings.root / name, ignore_errors=True)

    async def _finish_removals(self) -> None:
        present = await asyncio.to_thread(_names, self._services.settings.root)
        for container in self._services.registry:
            state = container.state
            over = not state.running and state.started_at and container.record.host_config.auto_remove
            lost = container.id not in present and await self._lost_its_root(container)
            if not (state.removing or over or lost):
                continue
            volumes = container.record.host_config.auto_remove or (state.removing and state.removing_volumes)
            state.removing = False
            try:
                await self._removal.remove(container, force=True, volumes=volumes)
            except SampanError:
                log.exception("%s: finishing its removal failed", container.id)

    async def _lost_its_root(self, container: Container) -> bool:
        """Its row came back after a power loss, but its data was removed already: the removal had been acknowledged."""
        try:
            await self._services.images.rootfs_mounts(container.id)
        except NotFound:
            return True
        return False

    def start_by_policy(self) -> None:
        """Start, in the background, what its restart policy wants to run."""
        for container in self._services.registry:
            state = container.state
            if state.alive:
                continue
            wanted = restart_policy.at_engine_start(
                container.record.host_config.restart_policy,
                started_before=bool(state.started_at),
                exit_code=state.exit_code,
                restarts=state.restart_count,
                stopped_by_user=state.stopped_by_user,
            )
            if wanted:
                container.restart_timer = asyncio.create_task(self._start(container))

    async def _start(self, container: Container) -> None:
        container.restart_timer = None
        try:
            await self._lifecycle.start(container)
        except SampanError as error:
            log.warning("%s: starting it again failed: %s", container.name, error)

    # --- leaving -----------------------------------------------------------------------------------------------------

    async def shut_down(self) -> None:
        """Stop every container, unless live-restore keeps them; then nothing of the engine watches them any more."""
        services = self._services
        self._exits.shutting_down = True
        if not services.settings.live_restore:
            await self._stop_all([c for c in services.registry if c.state.running])
        for container in services.registry:
            container.cancel_restart()
            for task in (container.health_task, container.monitor):
                if task is not None:
                    task.cancel()

    async def _stop_all(self, containers: list[Container]) -> None:
        """All side by side, within the shutdown timeout or what the most patient of them asks for; then they stay behind."""
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(container: Container) -> None:
            async with turns:
                await self._stop(container)

        if not containers:
            return
        own = [self._patience(container) for container in containers]
        whole = None if min(own) < 0 else max(self._services.settings.shutdown_timeout, max(own) + 5)
        tasks = [asyncio.create_task(one(container), name=container.name) for container in containers]
        _, late = await asyncio.wait(tasks, timeout=whole)
        for task in late:
            log.warning("%s: it did not stop in time and goes on running", task.get_name())
            task.cancel()

    def _patience(self, container: Container) -> int:
        """Seconds between the stop signal and the kill; negative for no end."""
        own = container.record.config.stop_timeout
        return self._services.settings.default_stop_timeout if own is None else own

    async def _stop(self, container: Container) -> None:
        """Stop it without remembering that a user did: its policy starts it again with the next engine."""
        user = container.state.stopped_by_user
        monitor = container.monitor
        try:
            await self._lifecycle.stop(container, timeout=self._patience(container))
            if monitor is not None:
                await asyncio.wait((monitor,), timeout=10)
        except SampanError as error:
            log.warning("%s: stopping it failed: %s", container.name, error)
        if self._services.registry.by_id(container.id) is container:
            container.state.stopped_by_user = user
            await self._services.registry.save_state(container)


def _names(directory: Path) -> set[str]:
    try:
        return set(os.listdir(directory))
    except FileNotFoundError:
        return set()
