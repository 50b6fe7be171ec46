"""The kinds of flag values, read as pflag and docker's opts package read them.

Every command imports this; what only some values need is imported when one is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.cli.flags import Value
from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def _integer(text: str, low: int, high: int, function: str) -> int:
    try:
        number = int(text, 0) if text.isascii() else int("x")
    except ValueError:
        raise ValueError(f'strconv.{function}: parsing "{text}": invalid syntax') from None
    if not low <= number <= high:
        raise ValueError(f'strconv.{function}: parsing "{text}": value out of range')
    return number


def read_int(text: str) -> int:
    return _integer(text, -(2**63), 2**63 - 1, "ParseInt")


def read_uint16(text: str) -> int:
    return _integer(text, 0, 2**16 - 1, "ParseUint")


def read_memory(text: str) -> int:
    """Bytes; -1 is let through, it means without limit."""
    if text == "-1":
        return -1
    from sampan.names import units

    try:
        return units.parse_memory(text)
    except InvalidParameter as error:
        raise ValueError(str(error)) from None


def read_duration(text: str) -> int:
    """Nanoseconds."""
    from sampan.names import times

    try:
        return times.parse_duration(text)
    except InvalidParameter as error:
        raise ValueError(str(error)) from None


def read_cpus(text: str) -> int:
    """Billionths of a CPU, exactly.

    >>> read_cpus("1.5")
    1500000000
    """
    from decimal import Decimal, InvalidOperation

    try:
        nano = Decimal(text) * 10**9
    except InvalidOperation:
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if not nano.is_finite() or nano != nano.to_integral_value():
        raise ValueError("value is too precise")
    return int(nano)


def read_filter(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError("bad format of filter (expected name=value)")
    return name.strip().lower(), value.strip()


def filters(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, bool]]:
    """Filters as the API takes them."""
    grouped: dict[str, dict[str, bool]] = {}
    for name, value in pairs:
        grouped.setdefault(name, {})[value] = True
    return grouped


def mapping(pairs: Iterable[str]) -> dict[str, str]:
    """`a=b` pairs; a name without value gets the empty one."""
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


STRING = Value("string", str)
INT = Value("int", read_int)
UINT16 = Value("uint16", read_uint16)
BYTES = Value("bytes", read_memory)
DURATION = Value("duration", read_duration)
DECIMAL = Value("decimal", read_cpus)
FILTER = Value("filter", read_filter)


def platform_objects(given: Sequence[str]) -> list[str] | None:
    """`os/arch[/variant]` flags as the API takes them, JSON objects; None for no flag. Raises `InvalidParameter`."""
    import json

    from sampan.names.platform import parse

    parsed = [parse(text) for text in given]
    return [
        json.dumps({"os": each.os, "architecture": each.architecture, "variant": each.variant})
        for each in parsed
    ] or None
