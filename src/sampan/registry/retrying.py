"""Trying again: what failed for a passing reason, after a pause that doubles or that the server asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sampan.errors import SampanError
from sampan.registry.failures import RETRIED, RateLimited
from sampan.registry.settings import RegistrySettings

T = TypeVar("T")

_DELAY_MAX = 30.0

Waiting = Callable[[float, SampanError], None]
"""Told before a pause: its seconds, and why."""


def nobody(delay: float, error: SampanError) -> None:
    """A `Waiting` that tells nobody."""


class Patience:
    """How often something has failed in a row, and how long to wait before the next attempt."""

    def __init__(self, settings: RegistrySettings, waiting: Waiting = nobody) -> None:
        self._settings = settings
        self._waiting = waiting
        self._failures = 0

    def progressed(self) -> None:
        """Something was achieved since the last failure: count anew."""
        self._failures = 0

    async def after(self, error: SampanError) -> None:
        """Wait before another attempt, or raise `error` when none can help."""
        self._failures += 1
        if not isinstance(error, RETRIED) or self._failures >= self._settings.attempts:
            raise error
        delay = min(self._settings.retry_delay * 2 ** (self._failures - 1), _DELAY_MAX)
        if isinstance(error, RateLimited):
            asked = error.limit.retry_after
            if asked is None or asked > self._settings.retry_after_max:
                raise error
            delay = max(asked, delay)
        self._waiting(delay, error)
        await asyncio.sleep(delay)


async def retried(
    attempt: Callable[[], Awaitable[T]], settings: RegistrySettings, waiting: Waiting = nobody
) -> T:
    """The result of the first attempt that succeeds; raises the error of the last one."""
    patience = Patience(settings, waiting)
    while True:
        try:
            return await attempt()
        except SampanError as error:
            await patience.after(error)
