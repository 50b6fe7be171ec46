"""Health checks: the engine schedules probes, the shim runs them and enforces their deadline.

A container starts as `starting`. One success makes it healthy; `retries` failures in a row make it unhealthy, but failures within
`start_period` do not count while it is starting. The streak survives a restart of the engine, because it is part of the run state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sampan.containers.container import Container
from sampan.containers.record import HealthRecord, ProbeResult
from sampan.errors import SampanError

if TYPE_CHECKING:
    from sampan.containers.services import Services
    from sampan.engineapi.container import HealthConfig
    from sampan.oci.runtime import Process

log = logging.getLogger(__name__)

_SECOND = 1_000_000_000
DEFAULT_INTERVAL = 30 * _SECOND
DEFAULT_TIMEOUT = 30 * _SECOND
DEFAULT_START_INTERVAL = 5 * _SECOND
DEFAULT_RETRIES = 3
KEPT_RESULTS = 5

BuildProcess = Callable[[Container, list[str]], "Awaitable[Process]"]
"""Makes the process of a probe: the container's user, environment and directory, with these arguments."""


def probe_arguments(config: HealthConfig | None, shell: list[str] | None) -> list[str] | None:
    """The command of a health check; None when there is none (also for `NONE`)."""
    if config is None or not config.test or config.test[0] in ("NONE", ""):
        return None
    if config.test[0] == "CMD-SHELL":
        return [*(shell or ["/bin/sh", "-c"]), *config.test[1:]]
    return config.test[1:] if config.test[0] == "CMD" else None


def pause(config: HealthConfig, starting_for: int | None) -> int:
    """Nanoseconds until the next probe. `starting_for`: how long the container has been starting; None when it is no more.

    A start period that ends before the next usual probe changes nothing: its interval may be longer than all that is left of it.
    """
    interval = config.interval or DEFAULT_INTERVAL
    if starting_for is None or config.start_period - starting_for <= interval:
        return interval
    return config.start_interval or DEFAULT_START_INTERVAL


def evaluate(health: HealthRecord, result: ProbeResult, config: HealthConfig, started_at: int) -> str:
    """Take a result into account; the status before it."""
    before = health.status
    health.log = [*health.log, result][-KEPT_RESULTS:]
    if result.exit_code == 0:
        health.failing_streak = 0
        health.status = "healthy"
        return before
    in_start_period = health.status == "starting" and result.start - started_at < config.start_period
    if not in_start_period:
        health.failing_streak += 1
        if health.failing_streak >= (config.retries or DEFAULT_RETRIES):
            health.status = "unhealthy"
    return before


class HealthChecks:
    """Runs the probes of every running container that has a health check."""

    def __init__(self, services: Services, process: BuildProcess) -> None:
        self._services = services
        self._process = process

    def initial(self, container: Container) -> HealthRecord | None:
        """The health of a container that is about to start."""
        config = container.record.config
        return HealthRecord() if probe_arguments(config.healthcheck, config.shell) is not None else None

    def begin(self, container: Container) -> None:
        """Start probing; nothing happens for a container without a health check."""
        config = container.record.config
        arguments = probe_arguments(config.healthcheck, config.shell)
        if arguments is not None and container.health_task is None:
            container.health_task = asyncio.create_task(self._probe_for_ever(container, arguments))

    @staticmethod
    def stop(container: Container) -> None:
        """Stop probing; a container that had no verdict yet, or a good one, is unhealthy now, as dockerd says."""
        if container.health_task is not None:
            container.health_task.cancel()
            container.health_task = None
            if container.state.health is not None:
                container.state.health.status = "unhealthy"

    async def _probe_for_ever(self, container: Container, arguments: list[str]) -> None:
        config = container.record.config.healthcheck
        assert config is not None
        while True:
            await asyncio.sleep(self._pause(container, config) / _SECOND)
            if container.state.status == "paused":
                continue
            try:
                await self._probe(container, arguments, config)
            except SampanError as error:
                log.debug("%s: health check: %s", container.id, error)

    def _pause(self, container: Container, config: HealthConfig) -> int:
        health = container.state.health
        starting = health is not None and health.status == "starting"
        return pause(config, self._services.clock() - container.state.started_at if starting else None)

    async def _probe(self, container: Container, arguments: list[str], config: HealthConfig) -> None:
        shim, health = container.shim, container.state.health
        if shim is None or health is None:
            return
        services = self._services
        start = services.clock()
        timeout = config.timeout or DEFAULT_TIMEOUT
        command = f"{arguments[0]} {' '.join(arguments[1:])}"
        services.publish(container, f"exec_create: {command}", {"execID": ""})
        services.publish(container, f"exec_start: {command}", {"execID": ""})
        code, output = await shim.probe(
            {
                "args": arguments,
                "timeout_ns": timeout,
                "user": container.record.config.user,
                "groups": list(container.record.host_config.group_add or ()),
            },
            await self._process(container, arguments),
        )
        if container.state.health is not health or container.shim is not shim:
            return
        text = output.decode("utf-8", "replace")
        if code == -1:
            text = f"Health check exceeded timeout ({_go_duration(timeout)})" + (f": {text}" if text else "")
        services.publish(container, "exec_die", {"execID": "", "exitCode": str(code)})
        result = ProbeResult(
            start=start, end=services.clock(), exit_code=code if code <= 0 else min(code, 255), output=text
        )
        before = evaluate(health, result, config, container.state.started_at)
        await services.registry.save_state(container)
        if health.status != before:
            services.publish(container, f"health_status: {health.status}")


def _go_duration(nanoseconds: int) -> str:
    seconds = nanoseconds / _SECOND
    return f"{seconds:g}s" if seconds >= 1 else f"{nanoseconds / 1_000_000:g}ms"
