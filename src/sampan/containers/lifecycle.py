"""The verbs of a container's life between create and remove."""

from __future__ import annotations

import asyncio
import signal as signals
from typing import TYPE_CHECKING

from sampan.containers.container import Container, Exit
from sampan.containers.signals import parse_signal
from sampan.errors import Conflict, NotModified, SampanError, SystemFailure
from sampan.faults import point
from sampan.runtime.interface import Shim

if TYPE_CHECKING:
    from sampan.containers.exits import Exits
    from sampan.containers.services import Services
    from sampan.containers.starting import Starting

_KILL_PATIENCE = 10.0
"""Seconds for which a killed container may take to be gone, before the engine gives up."""


class Lifecycle:
    """Start, stop, kill, restart, pause, unpause, resize."""

    def __init__(self, services: Services, starting: Starting, exits: Exits) -> None:
        self._services = services
        self._starting = starting
        self._exits = exits

    async def start(self, container: Container) -> None:
        """Raises `NotModified` when it runs, `Conflict` when it is paused or being removed, `StartFailure`."""
        try:
            async with container.lock:
                if container.state.status == "paused":
                    raise Conflict("cannot start a paused container, try unpause instead")
                if container.state.alive:
                    raise NotModified("container already started")
                container.cancel_restart()
                await self._starting.start(container)
        except NotModified:
            raise
        except SampanError:
            if container.record.host_config.auto_remove and not container.state.removing:
                await self._exits.auto_remove(container)
            raise

    async def stop(self, container: Container, *, timeout: int | None = None, signal: str = "") -> None:
        """Ask it to end, then make it. `timeout` in seconds, -1 for ever; None is the container's own.

        Raises `NotModified` when it does not run.
        """
        await container.settled()
        if not container.state.running:
            raise NotModified("container already stopped")
        await self._stop(container, timeout=timeout, signal=signal)
        self._services.publish(container, "stop")

    async def _stop(self, container: Container, *, timeout: int | None, signal: str = "") -> None:
        number = parse_signal(signal) if signal else stop_signal(container)
        if timeout is None:
            own = container.record.config.stop_timeout
            timeout = self._services.settings.default_stop_timeout if own is None else own
        shim = await self._mark_stopped(container)
        if shim is None:
            return
        point("stop.marked")
        gone = container.wait("next-exit")
        await self._signal(container, shim, number, resume=True)
        point("stop.signalled")
        if not await _within(gone, None if timeout < 0 else float(timeout)):
            await self._signal(container, shim, int(signals.SIGKILL), resume=True)
            if not await _within(gone, _KILL_PATIENCE):
                raise SampanError("tried to kill container, but did not receive an exit event")

    async def _mark_stopped(self, container: Container) -> Shim | None:
        """Store that the user stopped it, before any signal; ends a restart loop. The shim to signal, if there is a process."""
        async with container.lock:
            state = container.state
            state.stopped_by_user = True
            if state.status == "restarting":
                container.cancel_restart()
                state.status = "exited"
                await self._services.registry.keep_state(container)
                container.announce_exit()
                return None
            await self._services.registry.keep_state(container)
            return container.shim if state.alive else None

    async def kill(self, container: Container, signal: str = "KILL") -> None:
        """Send a signal; with KILL wait until it is gone. Raises `Conflict` when it does not run."""
        number = parse_signal(signal or "KILL")
        await container.settled()
        if not container.state.running:
            raise Conflict(f"container {container.id} is not running")
        if number == signals.SIGKILL:
            await self.kill_and_wait(container)
            return
        shim = container.shim
        if shim is None:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        ends = number == stop_signal(container) or not container.record.config.stop_signal
        async with container.lock:
            container.state.stopped_by_user = True
            await self._services.registry.keep_state(container)
        await self._signal(container, shim, number, resume=ends)

    async def kill_and_wait(self, container: Container) -> None:
        """SIGKILL, and wait until the exit has been handled."""
        shim = await self._mark_stopped(container)
        if shim is None:
            return
        gone = container.wait("next-exit")
        await self._signal(container, shim, int(signals.SIGKILL), resume=True)
        await _within(gone, _KILL_PATIENCE)

    async def _signal(self, container: Container, shim: Shim, number: int, *, resume: bool) -> None:
        try:
            await shim.kill(number)
        except (Conflict, ProcessLookupError, ConnectionError):
            return  # it has just ended by itself; the monitor knows
        if resume and container.state.status == "paused":
            await shim.resume()
            if container.state.status == "paused":  # its end may have been told already
                container.state.status = "running"
        self._services.publish(container, "kill", {"signal": str(number)})

    async def restart(self, container: Container, *, timeout: int | None = None, signal: str = "") -> None:
        """Stop if it runs, start; --rm does not act on this stop. Raises what start raises."""
        await container.settled()
        if container.state.running:
            container.restarting_by_user = True
            try:
                await self._stop(container, timeout=timeout, signal=signal)
                self._services.publish(container, "stop")
            finally:
                async with container.lock:  # the exit has been handled completely
                    container.restarting_by_user = False
        async with container.lock:
            await self._starting.start(container)
        self._services.publish(container, "restart")

    async def pause(self, container: Container) -> None:
        """Freeze all its processes. Raises `Conflict` unless it runs."""
        async with container.lock:
            state = container.state
            if state.status == "paused":
                raise Conflict(f"container {container.id} is already paused")
            if state.status == "restarting":
                raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
            if state.status != "running" or container.shim is None:
                raise Conflict(f"container {container.id} is not running")
            await container.shim.pause()
            state.status = "paused"
            try:
                await self._services.registry.save_state(container)
            except BaseException:
                await container.shim.resume()
                state.status = "running"
                raise
        self._services.publish(container, "pause")

    async def unpause(self, container: Container) -> None:
        """Let them run again. Raises `Conflict` unless it is paused."""
        async with container.lock:
            state = container.state
            if state.status != "paused" or container.shim is None:
                raise SystemFailure(f"Container {container.id} is not paused")
            await container.shim.resume()
            state.status, state.resume_at_start = "running", False
            await self._services.registry.keep_state(container)
        self._services.publish(container, "unpause")

    async def resize(self, container: Container, rows: int, columns: int) -> None:
        """The size of its terminal. Raises `Conflict` unless it runs."""
        shim = container.shim
        if shim is None or not container.state.alive:
            raise Conflict(f"container {container.id} is not running")
        if not container.record.config.tty:
            return  # as dockerd, which lets the runtime ignore it
        await shim.resize(rows, columns)
        self._services.publish(container, "resize", {"height": str(rows), "width": str(columns)})


def stop_signal(container: Container) -> int:
    """What asks this container's program to end."""
    return parse_signal(container.record.config.stop_signal or "TERM")


async def _within(future: asyncio.Future[Exit], seconds: float | None) -> bool:
    """True when the future was done within the time."""
    done, _ = await asyncio.wait((future,), timeout=seconds)
    return bool(done)
