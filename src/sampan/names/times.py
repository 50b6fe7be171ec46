"""Durations and points in time as Docker's clients write them, in integer nanoseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from sampan.errors import InvalidParameter

NANOSECOND = 1
MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

_UNITS = {
    "ns": NANOSECOND,
    "us": MICROSECOND,
    "µs": MICROSECOND,
    "μs": MICROSECOND,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_TERM = re.compile(r"([0-9]*)(?:(\.)([0-9]*))?([^0-9.]*)")
_LONGEST = 2**63 - 1

_RFC3339 = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:T(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?)?"
    r"(?P<zone>[zZ]|[+-]\d\d:\d\d)?"
)
_UNIX = re.compile(r"(-?\d+)(?:\.(\d+))?")


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration: `1h15m30.5s`, `-2ms`, `0`. Raises InvalidParameter in Go's words."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if rest == "":
        raise InvalidParameter(f'time: invalid duration "{text}"')
    total = 0
    while rest:
        match = _TERM.match(rest)
        if match is None or not (match[1] or match[3]):
            raise InvalidParameter(f'time: invalid duration "{text}"')
        whole, _, fraction, unit = match.groups(default="")
        if unit == "":
            raise InvalidParameter(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise InvalidParameter(f'time: unknown unit "{unit}" in duration "{text}"')
        scale = _UNITS[unit]
        total += int(whole or 0) * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
        rest = rest[match.end() :]
    if total > _LONGEST:
        raise InvalidParameter(f'time: invalid duration "{text}"')
    return -total if text.startswith("-") else total


def format_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: `1m30s`, `2h0m0s`, `1.5ms`, `0s`."""
    if nanoseconds == 0:
        return "0s"
    sign, value = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    for unit, scale in (("ns", NANOSECOND), ("µs", MICROSECOND), ("ms", MILLISECOND)):
        if value < scale * 1000:
            return f"{sign}{_decimal(value, scale)}{unit}"
    minutes, rest = divmod(value, MINUTE)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, SECOND)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else f"{sign}{text}"


def human_duration(nanoseconds: int) -> str:
    """About how long: `Less than a second`, `About a minute`, `3 weeks`, as `docker ps` says it."""
    seconds, minutes = nanoseconds // SECOND, nanoseconds // MINUTE
    if nanoseconds < SECOND:
        return "Less than a second"
    if minutes < 1:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = (nanoseconds + HOUR // 2) // HOUR
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, unit, name in (
        (24 * 14, 24, "days"),
        (24 * 60, 24 * 7, "weeks"),
        (24 * 730, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{nanoseconds // HOUR // 24 // 365} years"


def parse_timestamp(text: str, now_ns: int) -> int:
    """Nanoseconds since the epoch of a `--since`: RFC 3339 in full or in part, unix time, or a duration
    before now.

    A time without zone is local time, as it is for Docker's client. Raises InvalidParameter in the client's words.
    """
    if text != "0":
        try:
            return now_ns - parse_duration(text)
        except InvalidParameter:
            pass
    if match := _RFC3339.fullmatch(text):
        return _from_rfc3339(match, text)
    if "-" in text[1:]:
        raise InvalidParameter(f'parsing time "{text}": cannot parse as RFC 3339')
    return parse_unix(text)


def parse_filter_time(text: str, now_ns: int) -> int:
    """The same for an `until` filter. Raises InvalidParameter in the engine's words."""
    try:
        return parse_timestamp(text, now_ns)
    except InvalidParameter:
        raise InvalidParameter(f"failed to parse value as time or duration: {_bad_seconds(text)}") from None


def parse_parameter_time(name: str, text: str, now_ns: int) -> int:
    """The same for a parameter of a request. Raises InvalidParameter in the engine's words; `name` comes with its quotes."""
    try:
        return parse_timestamp(text, now_ns)
    except InvalidParameter:
        reason = f'invalid timestamp "{text}": {_bad_seconds(text)}'
        raise InvalidParameter(f"invalid value for {name}: {reason}") from None


def _bad_seconds(text: str) -> str:
    return f'invalid seconds "{text}": invalid syntax'


def parse_unix(text: str) -> int:
    """Nanoseconds of `seconds` or `seconds.nanoseconds`, the form that clients send. Raises
    InvalidParameter.
    """
    match = _UNIX.fullmatch(text)
    if match is None:
        raise InvalidParameter(f'failed to parse value as time or duration: "{text}"')
    seconds, fraction = match.groups(default="")
    return int(seconds) * SECOND + int((fraction + "0" * 9)[:9])


def format_rfc3339_nano(ns: int) -> str:
    """UTC with the fraction that Go's RFC3339Nano prints: `2024-01-02T03:04:05.1Z`, no trailing zeros."""
    seconds, rest = divmod(ns, SECOND)
    base = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{base.zfill(19)}{fraction}Z"


def parse_rfc3339(text: str) -> int:
    """Nanoseconds of an RFC 3339 time, as images and JSON carry it. Raises InvalidParameter."""
    match = _RFC3339.fullmatch(text)
    if match is None or match["second"] is None or match["zone"] is None:
        raise InvalidParameter(f'parsing time "{text}": cannot parse as RFC 3339')
    return _from_rfc3339(match, text)


def _decimal(value: int, scale: int) -> str:
    """`value / scale` exactly, without trailing zeros."""
    whole, rest = divmod(value, scale)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(scale)) - 1}d}".rstrip("0")


def _from_rfc3339(match: re.Match[str], text: str) -> int:
    zone_text = match["zone"] or ""
    try:
        when = datetime.strptime(match["date"], "%Y-%m-%d").replace(
            hour=int(match["hour"] or 0), minute=int(match["minute"] or 0), second=int(match["second"] or 0)
        )
        if zone_text in ("z", "Z"):
            when = when.replace(tzinfo=UTC)
        elif zone_text:
            offset = timedelta(hours=int(zone_text[1:3]), minutes=int(zone_text[4:6]))
            when = when.replace(tzinfo=timezone(-offset if zone_text[0] == "-" else offset))
        else:
            when = when.astimezone()
        since = when - datetime.fromtimestamp(0, UTC)
    except (ValueError, OverflowError):
        raise InvalidParameter(f'parsing time "{text}": out of range') from None
    fraction = ((match["fraction"] or "") + "0" * 9)[:9]
    return (since.days * 86400 + since.seconds) * SECOND + int(fraction)
