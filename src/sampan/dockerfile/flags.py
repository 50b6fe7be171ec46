"""Flags of an instruction: `--name=value`, `--name` for a switch, some of them repeatable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from sampan.dockerfile.nearest import suggestion
from sampan.dockerfile.source import DockerfileError


class Kind(Enum):
    """What a flag takes."""

    SWITCH = auto()
    VALUE = auto()
    LIST = auto()


@dataclass(frozen=True, slots=True)
class Flags:
    """An instruction's flags by name; absent ones are not in them."""

    switches: Mapping[str, bool]
    values: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]]

    def value(self, name: str) -> str:
        """A value, `""` when it wasn't given."""
        return self.values.get(name, "")

    def all(self, name: str) -> tuple[str, ...]:
        """All values of a repeatable flag, in order."""
        return self.lists.get(name, ())

    def on(self, name: str) -> bool:
        """A switch."""
        return self.switches.get(name, False)


def read_flags(words: tuple[str, ...], known: Mapping[str, Kind]) -> Flags:
    """Check words as `--chown=1:2` against what the instruction takes.

    Raises `DockerfileError` for an unknown flag, one given twice, one without its value, a switch that is neither true nor false.
    """
    switches: dict[str, bool] = {}
    values: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        kind = known.get(name)
        if kind is None:
            raise DockerfileError(f"unknown flag: --{name}{suggestion(name, known)}")
        if kind is Kind.LIST:
            lists.setdefault(name, []).append(value)
            continue
        if name in switches or name in values:
            raise DockerfileError(f"duplicate flag specified: --{name}")
        if kind is Kind.VALUE:
            if not equals:
                raise DockerfileError(f"missing a value on flag: --{name}")
            values[name] = value
        elif value.lower() in ("", "true") and (not equals or value):
            switches[name] = True
        elif value.lower() == "false":
            switches[name] = False
        else:
            raise DockerfileError(f"expecting boolean value for flag --{name}, not: {value}")
    return Flags(switches, values, {name: tuple(each) for name, each in lists.items()})
