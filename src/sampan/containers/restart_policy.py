"""When a container that ended is started again, and after which pause.

Pure: facts in, decision out. dockerd's figures: 100 ms, doubled with each quick failure, at most a minute, and back to
100 ms after a run of ten seconds.
"""

from __future__ import annotations

from typing import NamedTuple

from sampan.engineapi.container import RestartPolicy

FIRST_DELAY = 0.1
LONGEST_DELAY = 60.0
STABLE_RUN = 10.0


class Decision(NamedTuple):
    """Whether to restart, and after how many seconds."""

    restart: bool
    delay: float


def after_exit(
    policy: RestartPolicy,
    *,
    exit_code: int,
    restarts: int,
    stopped_by_user: bool,
    ran_for: float,
    last_delay: float,
) -> Decision:
    """A container has just ended; `last_delay` is the pause before its last start (0 for none), `ran_for` in seconds."""
    if stopped_by_user or not _wants_restart(policy, exit_code, restarts):
        return Decision(False, 0.0)
    if ran_for >= STABLE_RUN or last_delay <= 0:
        return Decision(True, FIRST_DELAY)
    return Decision(True, min(last_delay * 2, LONGEST_DELAY))


def at_engine_start(
    policy: RestartPolicy, *, started_before: bool, exit_code: int, restarts: int, stopped_by_user: bool
) -> bool:
    """Whether a container that has no process now is started when the engine starts, however the last one ended.

    `always` is started even if the user stopped it: that is what distinguishes it from `unless-stopped`.
    """
    if not started_before:
        return False
    match policy.name:
        case "always":
            return True
        case "unless-stopped" | "on-failure":
            return not stopped_by_user and _wants_restart(policy, exit_code, restarts)
        case _:
            return False


def _wants_restart(policy: RestartPolicy, exit_code: int, restarts: int) -> bool:
    match policy.name:
        case "always" | "unless-stopped":
            return True
        case "on-failure":
            allowed = policy.maximum_retry_count == 0 or restarts < policy.maximum_retry_count
            return exit_code != 0 and allowed
        case _:
            return False
