"""`HEALTHCHECK [--interval= --timeout= --start-period= --start-interval= --retries=] CMD command | NONE`."""

from __future__ import annotations

from sampan.dockerfile.flags import Flags, Kind, read_flags
from sampan.dockerfile.instructions import Healthcheck
from sampan.dockerfile.nearest import suggestion
from sampan.dockerfile.parse import Statement
from sampan.dockerfile.source import DockerfileError
from sampan.dockerfile.words import json_array
from sampan.errors import InvalidParameter
from sampan.names.times import parse_duration

_FLAGS = {
    "interval": Kind.VALUE,
    "timeout": Kind.VALUE,
    "start-period": Kind.VALUE,
    "start-interval": Kind.VALUE,
    "retries": Kind.VALUE,
}
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
    """Nanoseconds, 0 for the default."""
    text = flags.value(name)
    try:
        total = parse_duration(text) if text else 0
    except InvalidParameter as error:
        raise DockerfileError(str(error)) from None
    if total and total < _LEAST:
        raise DockerfileError(f'Interval "{name}" cannot be less than 1ms')
    return total


def _retries(flags: Flags) -> int:
    text = flags.value("retries")
    if not text:
        return 0
    if not (text.isascii() and text.lstrip("-").isdecimal()):
        raise DockerfileError(f"strconv.ParseInt: parsing {text!r}: invalid syntax".replace("'", '"'))
    number = int(text)
    if number < 0:
        raise DockerfileError(f"--retries cannot be negative ({number})")
    return number
