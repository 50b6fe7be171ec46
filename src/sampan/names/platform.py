"""Platforms: `linux/arm64/v8` and its kin, by the rules of containerd's `platforms` package.

A platform is *normalised* before it is compared: `x86_64` is `amd64`, `aarch64` is `arm64`, `armhf` is
`arm/v7`. A machine runs more than its own platform: an arm64 one runs arm/v7 and below, an amd64 one runs
386.
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
_OS_COMPONENT = re.compile(r"([A-Za-z0-9_.-]+)(?:\(([A-Za-z0-9_.+-]*)\))?")

KNOWN_OS = frozenset(
    """
    aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows
    zos
    """.split()  # noqa: SIM905 - reads better as prose
)
KNOWN_ARCHITECTURES = frozenset(
    """
    386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le mips64p32
    mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm
    """.split()  # noqa: SIM905 - reads better as prose
)

_MACHINES = {"x86_64": "amd64", "i686": "386", "i586": "386", "i386": "386", "loongarch64": "loong64"}


class Platform(NamedTuple):
    """An operating system and processor; make it with `parse` or `normalize`, so that it compares."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        """`linux/arm/v7`; containerd's `platforms.Format`."""
        return "/".join(part for part in (self.os or "unknown", self.architecture, self.variant) if part)


def parse(text: str, default: Platform | None = None) -> Platform:
    """The platform that a `--platform` means: `linux/amd64`, `arm64`, `linux`; missing parts from `default`
    or here.

    Raises InvalidParameter in containerd's words.
    """
    if "*" in text:
        raise InvalidParameter(f'"{text}": wildcards not yet supported: invalid argument')
    parts = text.split("/", 3)
    for index, part in enumerate(parts):
        shape = _OS_COMPONENT if index == 0 else _COMPONENT
        if not shape.fullmatch(part):
            raise InvalidParameter(
                f'"{part}" is an invalid component of "{text}": platform specifier component must match '
                f'"^{shape.pattern}$": invalid argument'
            )
    if len(parts) > 3:
        raise InvalidParameter(f'"{text}": cannot parse platform specifier: invalid argument')
    if len(parts) == 1:
        return _parse_single(parts[0], text, default or local())
    system, version = _split_os(parts[0])
    return normalize(Platform(system, parts[1], parts[2] if len(parts) == 3 else "", version))


def normalize(platform: Platform) -> Platform:
    """The one spelling of a platform."""
    system = {"macos": "darwin"}.get(platform.os.lower(), platform.os.lower())
    architecture, variant = platform.architecture.lower(), platform.variant.lower()
    match architecture:
        case "i386":
            architecture, variant = "386", ""
        case "x86_64" | "x86-64" | "amd64":
            architecture, variant = "amd64", "" if variant == "v1" else variant
        case "aarch64" | "arm64":
            architecture, variant = "arm64", "" if variant in ("8", "v8", "v8.0") else variant
        case "armhf":
            architecture, variant = "arm", "v7"
        case "armel":
            architecture, variant = "arm", "v6"
        case "arm":
            variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    return Platform(system, architecture, variant, platform.os_version)


@cache
def local() -> Platform:
    """The platform of this machine, as an image for it would say; always a Linux one, as containers are."""
    machine = os.uname().machine
    if machine.startswith("armv"):
        return normalize(Platform("linux", "arm", f"v{machine[4]}"))
    return normalize(Platform("linux", _MACHINES.get(machine, machine)))


def runnable_on(platform: Platform) -> list[Platform]:
    """The platform and those whose programs it runs too, best first (containerd's `platforms.Only`)."""
    system, architecture, variant, version = normalize(platform)

    def arm(top: int) -> list[Platform]:
        return [Platform(system, "arm", f"v{number}", version) for number in range(top, 4, -1)]

    if architecture == "arm" and re.fullmatch(r"v[5-9]", variant):
        return arm(int(variant[1:]))
    if architecture == "arm64":
        minor = re.fullmatch(r"v8\.([1-9])", variant)
        variants = (
            [f"v8.{number}" for number in range(int(minor[1]), 0, -1)]
            if minor
            else [variant]
            if variant
            else []
        )
        return [Platform(system, "arm64", each, version) for each in [*variants, ""]] + arm(8)
    if architecture == "amd64":
        level = re.fullmatch(r"v([2-9])", variant)
        variants = (
            [f"v{number}" for number in range(int(level[1]), 1, -1)]
            if level
            else [variant]
            if variant
            else []
        )
        return [Platform(system, "amd64", each, version) for each in [*variants, ""]] + [
            Platform(system, "386", "", version)
        ]
    return [Platform(system, architecture, variant, version)]


def matches(candidate: Platform, wanted: Platform) -> bool:
    """Whether the candidate is exactly what was asked for; an OS version counts only when one was asked
    for.
    """
    candidate, wanted = normalize(candidate), normalize(wanted)
    same_version = not wanted.os_version or candidate.os_version.startswith(wanted.os_version)
    return candidate[:3] == wanted[:3] and same_version


def choose(candidates: Iterable[T], platform_of: Callable[[T], Platform], wanted: Platform) -> list[T]:
    """The candidates that `wanted` can run, best first; of equals the earlier, as indexes mean their
    order.
    """
    order = [each[:3] for each in runnable_on(wanted)]
    ranked: list[tuple[int, T]] = []
    for candidate in candidates:
        key = normalize(platform_of(candidate))[:3]
        if key in order:
            ranked.append((order.index(key), candidate))
    return [candidate for _, candidate in sorted(ranked, key=lambda pair: pair[0])]


def _parse_single(part: str, text: str, default: Platform) -> Platform:
    system, version = _split_os(part)
    if normalize(Platform(system, "")).os in KNOWN_OS:
        return Platform(normalize(Platform(system, "")).os, default.architecture, default.variant, version)
    platform = normalize(Platform(default.os, part))
    if platform.architecture in KNOWN_ARCHITECTURES:
        return platform
    raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')


def _split_os(part: str) -> tuple[str, str]:
    match = _OS_COMPONENT.fullmatch(part)
    assert match is not None  # `parse` has checked every component
    return match[1], match[2] or ""
