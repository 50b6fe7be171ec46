"""`HEALTHCHECK [--interval= --timeout= --start-period= --start-interval= --retries=] CMD command | NONE`."""

from __future__ import annotations

import re

from sampan.dockerfile.flags import Flags, Kind, read_flags
from sampan.dockerfile.instructions import Healthcheck
from sampan.dockerfile.nearest import suggestion
from sampan.dockerfile.parse import Statement
from sampan.dockerfile.source import DockerfileError
from sampan.dockerfile.words import json_array

_FLAGS = {
    "interval": Kind.VALUE,
    "timeout": Kind.VALUE,
    "start-period": Kind.VALUE,
    "start-interval": Kind.VALUE,
    "retries": Kind.VALUE,
}
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_LEAST = 10**6


def read_health(statement: Statement) -> Healthcheck:
    """Raises `DockerfileError`."""
    flags = read_flags(statement.flags, _FLAGS)
    word, _, rest = statement.text.partition(" ")
    rest = rest.strip()
    match word.upper():
        case "NONE":
            if rest:
                raise DockerfileError("HEALTHCHECK NONE takes no arguments")
            test: tuple[str, ...] = ("NONE",)
        case "CMD":
            array = json_array(rest)
            if not rest or array == []:
                raise DockerfileError("Missing command after HEALTHCHECK CMD")
            test = ("CMD", *array) if array is not None else ("CMD-SHELL", rest)
        case "":
            raise DockerfileError("HEALTHCHECK requires at least one argument")
        case _:
            raise DockerfileError(
                f'Unknown type "{word.upper()}" in HEALTHCHECK (try CMD){suggestion(word, ("CMD", "NONE"))}'
            )
    return Healthcheck(
        statement.place,
        statement.original,
        test,
        _duration(flags, "interval"),
        _duration(flags, "timeout"),
        _duration(flags, "start-period"),
        _duration(flags, "start-interval"),
        _retries(flags),
    )


def _duration(flags: Flags, name: str) -> int:
    """Nanoseconds of Go's form `1m30s`."""
    text = flags.value(name)
    if text in ("", "0"):
        return 0
    parts = _PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise DockerfileError(f'time: invalid duration "{text}"')
    total = sum(int(float(number) * _UNITS[unit]) for number, unit in parts)
    if 0 < total < _LEAST:
        raise DockerfileError(f'Interval "{name}" cannot be less than 1ms')
    return total


def _retries(flags: Flags) -> int:
    text = flags.value("retries")
    if not text:
        return 0
    if not (text.isascii() and text.lstrip("-").isdecimal()):
        raise DockerfileError(f"--retries: {text!r} is no number")
    number = int(text)
    if number < 0:
        raise DockerfileError(f"--retries cannot be negative ({number})")
    return number
