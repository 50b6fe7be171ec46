"""runc's option syntax: `-x`, `--x`, `--x=value`, `--x value`; options end at the first argument.

Hand-written because start-up time counts: argparse costs 6 ms, a tenth of what a container start may.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class UsageError(Exception):
    """The command line is wrong; `str(error)` says how."""


class Option(NamedTuple):
    """One option. `kind`: "flag", "text", "number", "duration", or "texts" and "numbers" (may be repeated)."""

    names: tuple[str, ...]
    kind: str
    help: str
    default: str = ""


class Parsed(NamedTuple):
    """What a command line said."""

    options: dict[str, str]
    """First name of the option → value; flags are "true"."""
    lists: dict[str, list[str]]
    """The same for options that may be repeated."""
    rest: list[str]
    """Arguments, from the first that is not an option on."""

    def flag(self, name: str) -> bool:
        return self.options.get(name) == "true"

    def text(self, name: str) -> str:
        """The value, or "" when not given."""
        return self.options.get(name, "")

    def number(self, name: str) -> int:
        """The value, or 0."""
        return int(self.options.get(name, "0"))

    def seconds(self, name: str) -> float | None:
        """A duration's value; None when not given."""
        return duration(self.options[name]) if name in self.options else None


def parse(options: tuple[Option, ...], arguments: list[str]) -> Parsed:
    """Raises UsageError, with runc's words, for an unknown option or a missing value."""
    by_name = {name: option for option in options for name in option.names}
    values: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    said: dict[str, str] = {}
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        if len(argument) < 2 or not argument.startswith("-"):
            break
        index += 1
        if argument == "--":
            break
        name, equals, value = argument.lstrip("-").partition("=")
        option = by_name.get(name)
        if option is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        key = option.names[0]
        if said.setdefault(key, name) != name:
            raise UsageError(f"Cannot use two forms of the same flag: {' '.join(reversed(option.names))}")
        if option.kind == "flag":
            values[key] = _boolean(name, value) if equals else "true"
            continue
        if not equals:
            if index == len(arguments):
                raise UsageError(f"flag needs an argument: -{name}")
            value = arguments[index]
            index += 1
        _check_value(option.kind, name, value)
        if option.kind in ("texts", "numbers"):
            lists.setdefault(key, []).append(value)
        else:
            values[key] = value
    return Parsed(values, lists, arguments[index:])


def _check_value(kind: str, name: str, value: str) -> None:
    if kind == "numbers" and not value.removeprefix("-").isdigit():
        raise UsageError(
            f'invalid value "{value}" for flag -{name}: strconv.ParseInt: parsing "{value}": invalid syntax'
        )
    try:
        if kind == "number":
            int(value)
        elif kind == "duration":
            duration(value)
    except ValueError:
        raise UsageError(f'invalid value "{value}" for flag -{name}: parse error') from None


_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Seconds, from Go's form: `1m30s`, `-1.5h`, `0`. Raises ValueError."""
    sign, digits = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if digits == "0":
        return 0.0
    if not digits or _PART.sub("", digits):
        raise ValueError(text)
    return sign * sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(digits))


def _boolean(name: str, value: str) -> str:
    lowered = value.lower()
    if lowered in ("1", "t", "true"):
        return "true"
    if lowered in ("0", "f", "false"):
        return "false"
    raise UsageError(f'invalid boolean value "{value}" for -{name}: parse error')


def format_options(options: tuple[Option, ...]) -> str:
    """The OPTIONS section of a help text."""
    lines = []
    for option in options:
        value = "" if option.kind == "flag" else " value"
        names = ", ".join(("--" if len(name) > 1 else "-") + name + value for name in option.names)
        default = f" (default: {option.default})" if option.default else ""
        lines.append((names, option.help + default))
    width = max((len(names) for names, _ in lines), default=0) + 2
    return "".join(f"   {names:<{width}}{text}\n" for names, text in lines)
