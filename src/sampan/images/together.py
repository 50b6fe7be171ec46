"""Transfers side by side: the first failure ends the others, and one error is what the caller hears of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from sampan.errors import SampanError

log = logging.getLogger(__name__)


@asynccontextmanager
async def side_by_side() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises no group: the first `SampanError` of its tasks, or the first of whatever else there was."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        failures = list(_each(errors))
        foreseen = [error for error in failures if isinstance(error, SampanError)]
        if len(foreseen) < len(failures):
            log.error("unforeseen error", exc_info=errors)
        raise (foreseen or failures)[0] from None


def _each(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error
