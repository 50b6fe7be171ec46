"""Docker's seccomp profiles: read, and resolved for one container.

A profile is the OCI runtime spec's `linux.seccomp` with conditions: a rule can depend on the container's capabilities,
on the architecture and on the kernel's version. `resolve` decides them.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from sampan.errors import InvalidParameter
from sampan.seccomp.architectures import BY_MACHINE

if TYPE_CHECKING:
    from collections.abc import Collection

    from sampan.oci.runtime import Seccomp, SeccompArg, SeccompSyscall

_DEFAULT_PROFILE = os.path.join(os.path.dirname(__file__), "default_profile.json")


class Condition(TypedDict, total=False):
    """What a rule depends on."""

    caps: list[str]
    arches: list[str]
    minKernel: str


class ProfileRule(TypedDict, total=False):
    """An OCI rule with conditions; `name` is the old form of one-element `names`."""

    names: list[str]
    name: str
    action: str
    errnoRet: int
    args: list[SeccompArg]
    includes: Condition
    excludes: Condition


class ArchitectureMap(TypedDict):
    """Which other system call tables go with an architecture's own."""

    architecture: str
    subArchitectures: NotRequired[list[str] | None]


class Profile(TypedDict, total=False):
    """A profile file, checked by `load_profile`."""

    defaultAction: str
    defaultErrnoRet: int
    architectures: list[str]
    archMap: list[ArchitectureMap]
    flags: list[str]
    listenerPath: str
    listenerMetadata: str
    syscalls: list[ProfileRule]


def load_profile(text: bytes | str | None = None) -> Profile:
    """Docker's default profile, or a user's file (`--security-opt seccomp=FILE`, whose contents the client sends).

    Raises InvalidParameter when it is no JSON or not of a profile's shape.
    """
    if text is None:
        with open(_DEFAULT_PROFILE, "rb") as file:
            text = file.read()
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"decoding seccomp profile failed: {error}") from error
    try:
        return _checked(document)
    except _WrongShape as error:
        raise InvalidParameter(f"decoding seccomp profile failed: {error}") from None


def resolve(
    profile: Profile, capabilities: Collection[str], *, arch: str, kernel: tuple[int, int]
) -> Seccomp:
    """The filter for a container with these capabilities (bounding set, `CAP_…`) on this machine.

    `arch` is `uname -m`'s word (x86_64, aarch64); `kernel` is (major, minor). Raises InvalidParameter for
    contradictions within the profile.
    """
    if profile.get("architectures") and profile.get("archMap"):
        raise InvalidParameter(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
        )
    native = BY_MACHINE.get(arch)
    filter_: Seccomp = {"defaultAction": profile["defaultAction"], "syscalls": []}
    for key in ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata"):
        if key in profile:
            filter_[key] = profile[key]
    architectures = list(profile.get("architectures") or [])
    for entry in profile.get("archMap") or []:
        if native and entry["architecture"] == native.oci_name:
            architectures = [entry["architecture"], *(entry.get("subArchitectures") or [])]
    if architectures:
        filter_["architectures"] = architectures
    for rule in profile.get("syscalls") or []:
        if not _applies(rule, set(capabilities), native.go_name if native else arch, kernel):
            continue
        resolved: SeccompSyscall = {"names": _names(rule), "action": rule["action"]}
        if "errnoRet" in rule:
            resolved["errnoRet"] = rule["errnoRet"]
        if rule.get("args"):
            resolved["args"] = rule["args"]
        filter_["syscalls"].append(resolved)
    return filter_


def host_kernel() -> tuple[int, int]:
    """(major, minor) of the running kernel."""
    return parse_kernel(os.uname().release)


def parse_kernel(release: str) -> tuple[int, int]:
    """`6.1.0-13-amd64` or `4.8` as (6, 1), (4, 8). Raises InvalidParameter."""
    parts = release.split(".")
    digits = [part[: len(part) - len(part.lstrip("0123456789"))] for part in parts[:2]]
    if len(digits) < 2 or not all(digits):
        raise InvalidParameter(f"invalid kernel version: {release!r}: expected major.minor")
    return int(digits[0]), int(digits[1])


def _applies(rule: ProfileRule, capabilities: set[str], arch: str, kernel: tuple[int, int]) -> bool:
    excludes, includes = rule.get("excludes") or {}, rule.get("includes") or {}
    if arch in (excludes.get("arches") or []) or capabilities.intersection(excludes.get("caps") or []):
        return False
    if excludes.get("minKernel") and kernel >= parse_kernel(excludes["minKernel"]):
        return False
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if not capabilities.issuperset(includes.get("caps") or []):
        return False
    return not includes.get("minKernel") or kernel >= parse_kernel(includes["minKernel"])


def _names(rule: ProfileRule) -> list[str]:
    if rule.get("name") and rule.get("names"):
        raise InvalidParameter(
            "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
        )
    return list(rule.get("names") or ([rule["name"]] if rule.get("name") else []))


class _WrongShape(Exception):
    """A field of another type than a profile's; the message names it."""


_STRING, _NUMBER, _STRINGS = "a string", "a number", "a list of strings"
_FIELDS = {
    "defaultAction": _STRING,
    "defaultErrnoRet": _NUMBER,
    "architectures": _STRINGS,
    "flags": _STRINGS,
    "listenerPath": _STRING,
    "listenerMetadata": _STRING,
}
_RULE_FIELDS = {"name": _STRING, "names": _STRINGS, "action": _STRING, "errnoRet": _NUMBER}
_CONDITION_FIELDS = {"caps": _STRINGS, "arches": _STRINGS, "minKernel": _STRING}
_ARGUMENT_FIELDS = {"index": _NUMBER, "value": _NUMBER, "valueTwo": _NUMBER, "op": _STRING}


def _checked(document: Any) -> Profile:
    """The document without nulls and unknown fields, everything in it of the right type."""
    profile: dict[str, Any] = _fields(document, _FIELDS, "profile")
    if not profile.get("defaultAction"):
        raise _WrongShape("defaultAction is missing")
    profile["archMap"] = [
        _fields(entry, {"architecture": _STRING, "subArchitectures": _STRINGS}, f"archMap[{number}]")
        for number, entry in enumerate(_list(document, "archMap"))
    ]
    for number, entry in enumerate(profile["archMap"]):
        if "architecture" not in entry:
            raise _WrongShape(f"archMap[{number}].architecture is missing")
    profile["syscalls"] = [
        _checked_rule(rule, f"syscalls[{number}]") for number, rule in enumerate(_list(document, "syscalls"))
    ]
    return profile  # type: ignore[return-value]


def _checked_rule(document: Any, where: str) -> dict[str, Any]:
    rule = _fields(document, _RULE_FIELDS, where)
    if not rule.get("action"):
        raise _WrongShape(f"{where}.action is missing")
    for key in ("includes", "excludes"):
        if document.get(key) is not None:
            rule[key] = _fields(document[key], _CONDITION_FIELDS, f"{where}.{key}")
    rule["args"] = [
        _fields(argument, _ARGUMENT_FIELDS, f"{where}.args[{number}]")
        for number, argument in enumerate(_list(document, "args"))
    ]
    for number, argument in enumerate(rule["args"]):
        argument.setdefault("index", 0)
        argument.setdefault("value", 0)
        if "op" not in argument:
            raise _WrongShape(f"{where}.args[{number}].op is missing")
    return rule


def _list(document: dict[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _WrongShape(f"{key} is not a list")
    return value


def _fields(document: Any, fields: dict[str, str], where: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise _WrongShape(f"{where} is not an object")
    checked = {}
    for key, kind in fields.items():
        value = document.get(key)
        if value is None:
            continue
        if kind is _STRING:
            right = isinstance(value, str)
        elif kind is _NUMBER:
            right = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64
        else:
            right = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not right:
            raise _WrongShape(f"{where}.{key} is not {kind}")
        checked[key] = value
    return checked
