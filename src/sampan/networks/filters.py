"""`docker network ls --filter` and `docker network prune --filter`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sampan.errors import InvalidParameter
from sampan.names.times import parse_filter_time
from sampan.networks.model import NetworkState
from sampan.networks.validate import PREDEFINED

if TYPE_CHECKING:
    from sampan.engineapi.filters import Filters

_LISTING = ("dangling", "driver", "id", "label", "name", "scope", "type")
_PRUNING = ("label", "label!", "until")


def select(states: Iterable[NetworkState], wanted: Filters) -> list[NetworkState]:
    """Networks that pass every filter. Raises `InvalidParameter` for unknown filters and values."""
    wanted.validate(_LISTING)
    for kind in wanted.get("type"):
        if kind not in ("custom", "builtin"):
            raise InvalidParameter("invalid value for filter 'type': must be 'builtin' or 'custom'")
    for text in wanted.get("dangling"):
        if text not in ("true", "1", "false", "0"):
            raise InvalidParameter(
                """invalid value for filter 'dangling': must be "true" (or "1"), or "false" (or "0")"""
            )
    return [state for state in states if _passes(state, wanted)]


def _passes(state: NetworkState, wanted: Filters) -> bool:
    record = state.record
    builtin = record.name in PREDEFINED
    if "type" in wanted and ("builtin" if builtin else "custom") not in wanted.get("type"):
        return False
    if "dangling" in wanted:
        dangling = not builtin and not state.endpoints
        if dangling != wanted.boolean("dangling", False):
            return False
    return (
        wanted.exact("driver", record.driver)
        and wanted.exact("scope", "local")
        and wanted.match("name", record.name)
        and (not wanted.get("id") or any(record.id.startswith(text) for text in wanted.get("id")))
        and wanted.labels(record.labels)
    )


def prunable(states: Iterable[NetworkState], wanted: Filters) -> list[NetworkState]:
    """User-defined networks without running containers that pass every filter. A configuration for others is never unused."""
    wanted.validate(_PRUNING)
    now = time.time_ns()
    bounds = [parse_filter_time(text, now) for text in wanted.get("until")]
    if len(bounds) > 1:
        raise InvalidParameter("more than one until filter specified")
    found = []
    for state in states:
        record = state.record
        if record.name in PREDEFINED or record.config_only or state.endpoints:
            continue
        if bounds and record.created_ns > bounds[0]:
            continue
        if not wanted.labels(record.labels) or (
            "label!" in wanted and wanted.labels(record.labels, "label!")
        ):
            continue
        found.append(state)
    return found
