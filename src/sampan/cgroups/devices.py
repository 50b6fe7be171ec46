"""The device list of a container: OCI rules folded into one default and its exceptions.

The specification's rules are applied in order, later ones over earlier ones. What comes out is what both mechanisms
can carry out: the v1 device controller (`devices.allow`, `devices.deny`) and the v2 program (`sampan.cgroups.ebpf`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sampan.cgroups.interface import CgroupError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.oci.runtime import DeviceCgroup

ANY = -1
"""Wildcard for a major or minor number."""


class DeviceKey(NamedTuple):
    """Which devices an exception is about."""

    type: str
    """`b` or `c`."""
    major: int
    minor: int

    def __str__(self) -> str:
        major, minor = ("*" if number == ANY else number for number in (self.major, self.minor))
        return f"{self.type} {major}:{minor}"


class DeviceList(NamedTuple):
    """A folded list: every access is `allow_all`, but for the accesses (of `rwm`) in `exceptions`."""

    allow_all: bool
    exceptions: dict[DeviceKey, str]


RUNTIME_RULES: tuple[tuple[str, int, int, str], ...] = (
    ("c", ANY, ANY, "m"),  # making any node is harmless: opening it is what counts
    ("b", ANY, ANY, "m"),
    ("c", 1, 3, "rwm"),  # null
    ("c", 1, 8, "rwm"),  # random
    ("c", 1, 7, "rwm"),  # full
    ("c", 5, 0, "rwm"),  # tty
    ("c", 1, 5, "rwm"),  # zero
    ("c", 1, 9, "rwm"),  # urandom
    ("c", 136, ANY, "rwm"),  # pts/*
    ("c", 5, 2, "rwm"),  # ptmx
    ("c", 10, 200, "rwm"),  # net/tun
)
"""What every container may use whatever its spec says, because the runtime gives it these devices; runc's list."""


def fold(rules: Iterable[DeviceCgroup]) -> DeviceList:
    """Apply the spec's rules and then the runtime's. Without rules nothing but the runtime's devices is allowed.

    Raises CgroupError when a rule takes away a part of what a broader one gave (`c *:*` allowed, then `c 1:3`
    denied): neither mechanism could express it, and approximating would allow what was forbidden.
    """
    allow_all = False
    exceptions: dict[DeviceKey, str] = {}
    for rule in rules:
        allow = rule["allow"]
        kind = rule.get("type") or "a"
        access = rule.get("access") or "rwm"
        if kind == "a":
            allow_all = allow
            exceptions.clear()
            continue
        key = DeviceKey("b" if kind == "b" else "c", _number(rule.get("major")), _number(rule.get("minor")))
        _apply(exceptions, key, access, add=allow is not allow_all)
    for kind, major, minor, access in RUNTIME_RULES:
        _apply(exceptions, DeviceKey(kind, major, minor), access, add=not allow_all)
    return DeviceList(allow_all, exceptions)


def _number(value: int | None) -> int:
    return ANY if value is None or value < 0 else value


def _apply(exceptions: dict[DeviceKey, str], key: DeviceKey, access: str, *, add: bool) -> None:
    """Add an exception, or take back what lies beneath `key`."""
    if add:
        exceptions[key] = _ordered(exceptions.get(key, "") + access)
        return
    for other, held in list(exceptions.items()):
        if _covers(key, other):
            left = _ordered("".join(set(held) - set(access)))
            if left:
                exceptions[other] = left
            else:
                del exceptions[other]
        elif _meet(key, other) and set(held) & set(access):
            raise CgroupError(
                f"device rule [{key} {access}] would take away a part of [{other} {held}], which no kernel can express"
            )


def _covers(wide: DeviceKey, narrow: DeviceKey) -> bool:
    return (
        wide.type == narrow.type and wide.major in (ANY, narrow.major) and wide.minor in (ANY, narrow.minor)
    )


def _meet(one: DeviceKey, other: DeviceKey) -> bool:
    """Whether some device is beneath both: `b *:0` and `b 5:*` are, at 5:0."""
    return one.type == other.type and all(
        ANY in pair or pair[0] == pair[1] for pair in ((one.major, other.major), (one.minor, other.minor))
    )


def _ordered(access: str) -> str:
    return "".join(letter for letter in "rwm" if letter in access)
