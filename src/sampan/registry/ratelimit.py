"""What a registry tells about its limits: Retry-After (RFC 9110), `RateLimit-*` (Docker Hub: `100;w=21600`)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

_FOREVER = 10 * 365 * 86400
"""Seconds beyond which a server's figure is no figure."""


class RateLimit(NamedTuple):
    """A limit; what was not told is None. Times in seconds from now."""

    retry_after: float | None
    remaining: int | None
    allowed: int | None
    window: int | None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> RateLimit:
        """Read from an answer's headers (case-insensitive mapping)."""
        allowed, window = _figure(headers.get("RateLimit-Limit", ""))
        remaining, other_window = _figure(headers.get("RateLimit-Remaining", ""))
        after = _retry_after(headers.get("Retry-After", ""))
        if after is None:
            reset = _figure(headers.get("RateLimit-Reset", ""))[0]
            after = float(reset) if reset is not None and reset <= _FOREVER else None
        return cls(after, remaining, allowed, window or other_window)

    def describe(self) -> str:
        """For the end of a message: ` (0 of 100 pulls per 6h0m0s remaining; the limit resets at 14:05:00 UTC, in 3600s)`."""
        parts: list[str] = []
        if self.remaining is not None:
            of = f" of {self.allowed}" if self.allowed is not None else ""
            window = f" per {_duration(self.window)}" if self.window else ""
            parts.append(f"{self.remaining}{of} pulls{window} remaining")
        elif self.allowed is not None:
            parts.append(
                f"the limit is {self.allowed} pulls{f' per {_duration(self.window)}' if self.window else ''}"
            )
        if self.retry_after is not None:
            when = datetime.fromtimestamp(time.time() + self.retry_after, UTC)
            parts.append(f"the limit resets at {when:%Y-%m-%d %H:%M:%S} UTC, in {self.retry_after:.0f}s")
        return f" ({'; '.join(parts)})" if parts else ""


def _figure(text: str) -> tuple[int | None, int | None]:
    """`100;w=21600` as (100, 21600)."""
    value, _, rest = text.strip().partition(";")
    number = int(value) if value.strip().isascii() and value.strip().isdigit() and len(value) < 12 else None
    window = None
    for part in rest.split(";"):
        name, _, given = part.strip().partition("=")
        if name == "w" and given.isascii() and given.isdigit() and len(given) < 12:
            window = int(given)
    return number, window


def _retry_after(text: str) -> float | None:
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < 12 and int(text) <= _FOREVER else None
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max(0.0, when.timestamp() - time.time()), float(_FOREVER))


def _duration(seconds: int | None) -> str:
    hours, rest = divmod(seconds or 0, 3600)
    minutes, seconds_left = divmod(rest, 60)
    return f"{hours}h{minutes}m{seconds_left}s" if hours else f"{minutes}m{seconds_left}s"
