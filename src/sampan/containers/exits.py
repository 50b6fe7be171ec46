"""What happens when a container's program ends: state, restart policy, --rm, and everybody who waits.

The order is dockerd's: the network is left, the state is stored, then `die` is published, then waiters learn of it; the rest of the
clean-up happens behind the container's lock, out of the waiters' way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sampan.containers import kept_sockets, restart_policy
from sampan.containers.container import Container
from sampan.containers.exit_reasons import reason_of
from sampan.containers.log_options import file_format, log_path
from sampan.containers.mounts import Mounting
from sampan.containers.services import Services
from sampan.errors import Conflict, NotFound, SampanError
from sampan.faults import point

if TYPE_CHECKING:
    from sampan.containers.health import HealthChecks
    from sampan.containers.log_shipping import LogShipping
    from sampan.runtime.interface import ExitStatus, Shim

log = logging.getLogger(__name__)


class Exits:
    """Watches running containers. `bind` gives it the verbs that it needs in turn."""

    def __init__(
        self, services: Services, mounting: Mounting, health: HealthChecks, shipping: LogShipping
    ) -> None:
        self._services = services
        self._mounting = mounting
        self._health = health
        self._shipping = shipping
        self._restart: Callable[[Container], Awaitable[None]] | None = None
        self._remove: Callable[[Container], Awaitable[None]] | None = None
        self.shutting_down = False

    def bind(
        self, restart: Callable[[Container], Awaitable[None]], remove: Callable[[Container], Awaitable[None]]
    ) -> None:
        """`restart` starts a container again (lock held), `remove` removes one with its anonymous volumes."""
        self._restart = restart
        self._remove = remove

    def watch(self, container: Container, shim: Shim) -> None:
        """Wait for the exit of a container that has just been started or adopted."""
        self._shipping.begin(container)
        container.monitor = asyncio.create_task(
            self._monitor(container, shim), name=f"monitor-{container.id[:12]}"
        )

    async def _monitor(self, container: Container, shim: Shim) -> None:
        try:
            status = await shim.wait()
            await self.handle(container, shim, status)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("%s: handling the exit failed", container.id)

    async def handle(self, container: Container, shim: Shim | None, status: ExitStatus) -> None:
        """The container's program has ended with `status`."""
        services, state = self._services, container.state
        async with container.lock:
            if shim is not None and container.shim is not shim:
                return  # a start that failed has dealt with it already
            self._health.stop(container)
            for exec in list(container.execs.values()):
                exec.container_ended()
            point("exit.noticed")
            if shim is not None:
                ports = len(services.networks.sockets(container.id, "ports"))
                await kept_sockets.withdraw(shim, "ports", ports)
            try:
                await services.networks.leave(container.id)
            except SampanError as error:  # the next start takes back what is left
                log.error("%s: leaving its networks: %s", container.id, error)
            point("exit.network-left")
            restart = self._decide(container, status)
            ran_for = max(0, status.at_ns - state.started_at)
            self._record(container, status, restart=restart is not None)
            state.reason = await self._reason(container, status, ran_for)
            await services.registry.keep_state(container)
            point("exit.state-written")
            if status.oom_killed:
                services.publish(container, "oom")
            services.publish(
                container,
                "die",
                {"execDuration": str(ran_for // 1_000_000_000), "exitCode": str(status.code)},
            )
            if restart is None:
                container.announce_exit()
            container.shim = None
            await self._clean_up(container, shim)
            self._shipping.end(container)
            point("exit.cleaned-up")
            if restart is not None:
                container.restart_timer = asyncio.create_task(self._restart_later(container, restart))
        if restart is None and container.record.host_config.auto_remove and not container.restarting_by_user:
            await self.auto_remove(container)

    def _decide(self, container: Container, status: ExitStatus) -> float | None:
        """Seconds until the restart, None for no restart."""
        state = container.state
        decision = restart_policy.after_exit(
            container.record.host_config.restart_policy,
            exit_code=status.code,
            restarts=state.restart_count,
            stopped_by_user=state.stopped_by_user or self.shutting_down or state.removing,
            ran_for=max(0, status.at_ns - state.started_at) / 1e9,
            last_delay=container.restart_delay,
        )
        container.restart_delay = decision.delay
        return decision.delay if decision.restart else None

    @staticmethod
    def _record(container: Container, status: ExitStatus, *, restart: bool) -> None:
        state = container.state
        state.status = "restarting" if restart else "exited"
        state.restart_count += restart
        state.exit_code = status.code
        state.finished_at = status.at_ns
        state.oom_killed = state.oom_killed or status.oom_killed
        state.pid = 0

    async def _reason(self, container: Container, status: ExitStatus, ran_for: int) -> str:
        if status.code == 0 or container.state.stopped_by_user:
            return status.reason
        record = container.record
        path = str(log_path(record, self._services.directory(record.id)))
        return await asyncio.to_thread(
            reason_of,
            status,
            ran_for=ran_for,
            stopped=container.state.stopped_by_user,
            log=(file_format(record.host_config.log_config.type), path),
        )

    async def _clean_up(self, container: Container, shim: Shim | None) -> None:
        try:
            if shim is not None:
                await shim.close()
            await self._mounting.unmount(container)
        except (SampanError, OSError):
            log.exception("%s: cleaning up after the exit failed", container.id)

    async def _restart_later(self, container: Container, delay: float) -> None:
        assert self._restart is not None
        await asyncio.sleep(delay)
        async with container.lock:
            container.restart_timer = None
            if container.state.status != "restarting" or container.state.stopped_by_user:
                return
            try:
                await self._restart(container)
            except SampanError as error:
                log.warning("%s: restart failed: %s", container.id, error)
                container.state.status = "exited"
                await self._services.registry.keep_state(container)
                container.announce_exit()

    async def auto_remove(self, container: Container) -> None:
        """--rm: the container goes, and its anonymous volumes with it."""
        assert self._remove is not None
        try:
            await self._remove(container)
        except (NotFound, Conflict):
            return  # somebody else removes it already
        except SampanError:
            log.exception("%s: --rm failed", container.id)
