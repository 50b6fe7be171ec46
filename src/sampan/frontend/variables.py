"""The variables of a stage: its environment, and the build arguments that it has declared.

An argument counts from its `ARG` on, within its stage; the environment's variable of the same name wins, or with BuildKit the
later one. Some arguments need no
`ARG` and are never part of a step's identity: proxies, which differ from place to place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sampan.dockerfile.expand import expand
from sampan.dockerfile.source import DockerfileError
from sampan.names.platform import Platform

if TYPE_CHECKING:
    from sampan.dockerfile.stages import Dockerfile
    from sampan.frontend.interface import Options

PROXIES = frozenset(
    name
    for each in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (each, each.lower())
)


def platform_arguments(build: Platform, target: Platform, stage: str) -> dict[str, str]:
    """The arguments that every Dockerfile may declare without a value."""
    return {
        "BUILDPLATFORM": str(build),
        "BUILDOS": build.os,
        "BUILDARCH": build.architecture,
        "BUILDVARIANT": build.variant,
        "TARGETPLATFORM": str(target),
        "TARGETOS": target.os,
        "TARGETARCH": target.architecture,
        "TARGETVARIANT": target.variant,
        "TARGETSTAGE": stage or "default",
    }


class Variables:
    """One stage's variables. `given` are the client's build arguments, `known` those that have a value without being given."""

    def __init__(self, given: Mapping[str, str | None], known: Mapping[str, str]) -> None:
        self._given = given
        self._known = known
        self._declared: dict[str, str | None] = {}
        self._covering: set[str] = set()
        """Declared ones that win over the environment."""
        self.consumed: set[str] = set()

    def declare(self, name: str, default: str | None) -> str | None:
        """`ARG name=default`: the client's value, else the default, else what is known of that name. None: this gives it none,
        and one that it has stays."""
        if name in self._given:
            self.consumed.add(name)
            value = self._given[name]
        else:
            value = default if default is not None else self._known.get(name)
        if value is not None or name not in self._declared:
            self._declared[name] = value
        return value

    def win(self, name: str) -> None:
        """What is declared wins over the environment from here on, if it has a value: BuildKit's way, not the classic one's."""
        if self._declared.get(name) is not None:
            self._covering.add(name)

    def lose(self, names: Iterable[str]) -> None:
        """`ENV` sets these: it wins again."""
        self._covering.difference_update(names)

    def value(self, name: str) -> str | None:
        """Of a declared argument."""
        return self._declared.get(name)

    @property
    def names(self) -> Iterable[str]:
        """Of all declared arguments, also those without a value."""
        return self._declared.keys()

    def inherit(self, other: Variables) -> None:
        """What a stage declares counts in those that stand on it."""
        self._declared.update(other._declared)
        self._covering.update(other._covering)

    def lookup(self, env: list[str] | None) -> Mapping[str, str]:
        """What `$name` means with this environment."""
        declared = {name: value for name, value in self._declared.items() if value is not None}
        covering = {name: value for name, value in declared.items() if name in self._covering}
        return {**declared, **environment(env), **covering}

    def for_run(self, env: list[str] | None) -> list[str]:
        """The `name=value`s that a `RUN` gets beside its environment, sorted: declared ones first, then proxies."""
        return [*self.identity(env), *self._proxies()]

    def identity(self, env: list[str] | None) -> list[str]:
        """Those of them that make a step another step."""
        taken = environment(env).keys() - self._covering
        return sorted(
            f"{name}={value}"
            for name, value in self._declared.items()
            if value is not None and name not in taken
        )

    def _proxies(self) -> list[str]:
        self.consumed |= PROXIES & self._given.keys()
        return sorted(
            f"{name}={value}"
            for name, value in self._given.items()
            if name in PROXIES and name not in self._declared and value is not None
        )


def outer_values(file: Dockerfile, options: Options, given: Mapping[str, str | None]) -> dict[str, str]:
    """Values of the `ARG`s before the first `FROM`, some of them `given`, and of those that are always there.

    Raises `DockerfileError` with its place.
    """
    target = options.target or file.stages[-1].name
    known = platform_arguments(options.build_platform, options.platform, target)
    variables = Variables(given, known)
    values = dict(known)
    for instruction in file.arguments:
        try:
            for name, default in instruction.arguments:
                value = None
                if default is not None:
                    value = expand(default, values.get, escape=file.directives.escape)
                variables.declare(name, value)
                values.update(variables.lookup(None))
        except DockerfileError as error:
            raise error.at(file.source, instruction.place) from None
    return values


def environment(env: list[str] | None) -> dict[str, str]:
    """`["a=b"]` as a dictionary."""
    return dict(entry.partition("=")[::2] for entry in env or [])
