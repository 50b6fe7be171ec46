"""When the next probe of a health check is due."""

from __future__ import annotations

from sampan.containers.health import DEFAULT_INTERVAL, DEFAULT_START_INTERVAL, pause
from sampan.engineapi.container import HealthConfig

SECOND = 1_000_000_000


def test_while_it_starts_the_start_interval_counts() -> None:
    config = HealthConfig(interval=2 * SECOND, start_period=60 * SECOND)
    assert pause(config, 0) == DEFAULT_START_INTERVAL
    config.start_interval = SECOND
    assert pause(config, 30 * SECOND) == SECOND


def test_afterwards_the_interval_does() -> None:
    config = HealthConfig(interval=2 * SECOND, start_period=60 * SECOND)
    assert pause(config, None) == pause(config, 61 * SECOND) == 2 * SECOND
    assert pause(HealthConfig(), None) == DEFAULT_INTERVAL


def test_a_start_period_shorter_than_the_interval_delays_nothing() -> None:
    assert pause(HealthConfig(interval=3 * SECOND // 10, start_period=SECOND // 10), 0) == 3 * SECOND // 10
