"""Checking a runtime spec from outside: every error names the field that is wrong.

A checker takes a value and its path (`process.rlimits[0].soft`) and raises InvalidParameter. null counts as absent,
as Go's encoder and decoder have it, and is removed; unknown fields are allowed, as the specification demands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.oci.runtime import Process, Resources, Spec

    Checker = Callable[[Any, str], None]

_KIND_NAMES = {str: "a string", bool: "a boolean", int: "an integer", dict: "an object", list: "a list"}


def _wrong(path: str, expected: str, value: object) -> InvalidParameter:
    shown = repr(value)
    return InvalidParameter(
        f"{path}: expected {expected}, got {shown if len(shown) < 60 else shown[:57] + '...'}"
    )


def _of(kind: type) -> Checker:
    def check(value: Any, path: str) -> None:
        if type(value) is not kind:
            raise _wrong(path, _KIND_NAMES[kind], value)

    return check


def _number(low: int, high: int) -> Checker:
    def check(value: Any, path: str) -> None:
        if type(value) is not int:
            raise _wrong(path, "an integer", value)
        if not low <= value <= high:
            raise InvalidParameter(f"{path}: {value} is not between {low} and {high}")

    return check


def _matching(pattern: str, expected: str) -> Checker:
    compiled = re.compile(pattern)

    def check(value: Any, path: str) -> None:
        if type(value) is not str or not compiled.fullmatch(value):
            raise _wrong(path, expected, value)

    return check


def _one_of(*values: str) -> Checker:
    def check(value: Any, path: str) -> None:
        if value not in values:
            raise _wrong(path, "one of " + ", ".join(values), value)

    return check


def _list(element: Checker) -> Checker:
    def check(value: Any, path: str) -> None:
        if type(value) is not list:
            raise _wrong(path, "a list", value)
        for index, item in enumerate(value):
            element(item, f"{path}[{index}]")

    return check


def _mapping(element: Checker) -> Checker:
    def check(value: Any, path: str) -> None:
        if type(value) is not dict:
            raise _wrong(path, "an object", value)
        for key, item in value.items():
            element(item, f'{path}["{key}"]')

    return check


def _object(fields: dict[str, Checker], *required: str) -> Checker:
    def check(value: Any, path: str) -> None:
        if type(value) is not dict:
            raise _wrong(path or "the document", "an object", value)
        for name in [name for name, item in value.items() if item is None]:
            del value[name]
        prefix = path + "." if path else ""
        for name in required:
            if name not in value:
                raise InvalidParameter(f"{prefix}{name}: missing")
        for name, item in value.items():
            checker = fields.get(name)
            if checker is not None:
                checker(item, prefix + name)

    return check


_text = _matching(r"[^\0]*", "a string without NUL")
_absolute = _matching(r"/[^\0]*", "an absolute path")
_flag = _of(bool)
_u16 = _number(0, 0xFFFF)
_u32 = _number(0, 0xFFFFFFFF)
_i32 = _number(-(1 << 31), (1 << 31) - 1)
_i64 = _number(-(1 << 63), (1 << 63) - 1)
_u64 = _number(0, (1 << 64) - 1)
_texts = _list(_text)

# CVE-2024-40635: beyond 2**31-1 an id has wrapped around to root in more than one program.
_id = _number(0, (1 << 31) - 1)

_mappings = _list(
    _object({"containerID": _u32, "hostID": _u32, "size": _u32}, "containerID", "hostID", "size")
)
_capabilities = _list(_matching(r"CAP_[A-Z_]+", "a capability's name (CAP_...)"))
_hooks = _list(
    _object({"path": _absolute, "args": _texts, "env": _texts, "timeout": _number(1, (1 << 31) - 1)}, "path")
)
_cpu_list = _matching(r"[0-9, -]*", "a CPU list such as 0-3,7")

_process = _object(
    {
        "terminal": _flag,
        "consoleSize": _object({"height": _u64, "width": _u64}, "height", "width"),
        "user": _object({"uid": _id, "gid": _id, "umask": _number(0, 0o777), "additionalGids": _list(_id)}),
        "args": _texts,
        "env": _texts,
        "cwd": _absolute,
        "capabilities": _object(
            dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), _capabilities)
        ),
        "rlimits": _list(
            _object(
                {"type": _matching(r"RLIMIT_[A-Z]+", "RLIMIT_..."), "soft": _u64, "hard": _u64},
                "type",
                "soft",
                "hard",
            )
        ),
        "noNewPrivileges": _flag,
        "apparmorProfile": _text,
        "selinuxLabel": _text,
        "oomScoreAdj": _number(-1000, 1000),
        "scheduler": _object(
            {
                "policy": _matching(r"SCHED_[A-Z]+", "SCHED_..."),
                "nice": _number(-20, 19),
                "priority": _i32,
                "flags": _list(_matching(r"SCHED_FLAG_[A-Z_]+", "SCHED_FLAG_...")),
                "runtime": _u64,
                "deadline": _u64,
                "period": _u64,
            },
            "policy",
        ),
        "ioPriority": _object(
            {
                "class": _one_of("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"),
                "priority": _number(0, 7),
            },
            "class",
        ),
        "execCPUAffinity": _object({"initial": _cpu_list, "final": _cpu_list}),
    },
    "cwd",
)

_device_number = {"major": _i64, "minor": _i64}
_throttles = _list(_object({**_device_number, "rate": _u64}, "major", "minor"))

_resources = _object(
    {
        "devices": _list(
            _object({"allow": _flag, "type": _text, **_device_number, "access": _text}, "allow")
        ),
        "memory": _object(
            {
                **dict.fromkeys(("limit", "reservation", "swap", "kernel", "kernelTCP"), _i64),
                "swappiness": _u64,
                **dict.fromkeys(("disableOOMKiller", "useHierarchy", "checkBeforeUpdate"), _flag),
            }
        ),
        "cpu": _object(
            {
                **dict.fromkeys(("shares", "burst", "period", "realtimePeriod"), _u64),
                **dict.fromkeys(("quota", "realtimeRuntime", "idle"), _i64),
                "cpus": _text,
                "mems": _text,
            }
        ),
        "pids": _object({"limit": _i64}),
        "blockIO": _object(
            {
                "weight": _u16,
                "leafWeight": _u16,
                "weightDevice": _list(
                    _object({**_device_number, "weight": _u16, "leafWeight": _u16}, "major", "minor")
                ),
                "throttleReadBpsDevice": _throttles,
                "throttleWriteBpsDevice": _throttles,
                "throttleReadIOPSDevice": _throttles,
                "throttleWriteIOPSDevice": _throttles,
            }
        ),
        "hugepageLimits": _list(
            _object(
                {"pageSize": _matching(r"[1-9][0-9]*[KMG]B", "a size such as 2MB"), "limit": _u64},
                "pageSize",
                "limit",
            )
        ),
        "network": _object({"classID": _u32}),
        "unified": _mapping(_text),
    }
)

_seccomp = _object(
    {
        "defaultAction": _text,
        "defaultErrnoRet": _u32,
        "architectures": _texts,
        "flags": _texts,
        "listenerPath": _text,
        "listenerMetadata": _text,
        "syscalls": _list(
            _object(
                {
                    "names": _texts,
                    "action": _text,
                    "errnoRet": _u32,
                    "args": _list(
                        _object(
                            {"index": _u32, "value": _u64, "valueTwo": _u64, "op": _text},
                            "index",
                            "value",
                            "op",
                        )
                    ),
                },
                "names",
                "action",
            )
        ),
    },
    "defaultAction",
)

_linux = _object(
    {
        "namespaces": _list(
            _object(
                {
                    "type": _one_of("mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time"),
                    "path": _text,
                },
                "type",
            )
        ),
        "uidMappings": _mappings,
        "gidMappings": _mappings,
        "timeOffsets": _mapping(_object({"secs": _i64, "nanosecs": _number(0, 999_999_999)})),
        "devices": _list(
            _object(
                {
                    "path": _absolute,
                    "type": _matching(r"[cbup]", "one of c, b, u, p"),
                    **_device_number,
                    "fileMode": _u32,
                    "uid": _id,
                    "gid": _id,
                },
                "path",
                "type",
            )
        ),
        "cgroupsPath": _text,
        "resources": _resources,
        "rootfsPropagation": _text,
        "seccomp": _seccomp,
        "sysctl": _mapping(_text),
        "maskedPaths": _list(_absolute),
        "readonlyPaths": _list(_absolute),
        "mountLabel": _text,
        "personality": _object({"domain": _one_of("LINUX", "LINUX32"), "flags": _texts}, "domain"),
    }
)

_mounts = _list(
    _object(
        {
            "destination": _text,
            "type": _text,
            "source": _text,
            "options": _texts,
            "uidMappings": _mappings,
            "gidMappings": _mappings,
        },
        "destination",
    )
)

_spec = _object(
    {
        "ociVersion": _matching(r"1\.\d+\.\d+.*", "a version 1.x.y"),
        "process": _process,
        "root": _object({"path": _text, "readonly": _flag}, "path"),
        "hostname": _text,
        "domainname": _text,
        "mounts": _mounts,
        "hooks": _object(
            dict.fromkeys(
                ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"),
                _hooks,
            )
        ),
        "annotations": _mapping(_text),
        "linux": _linux,
    },
    "ociVersion",
)


def check_spec(document: object) -> Spec:
    """The document as a Spec, nulls removed. Raises InvalidParameter naming the first wrong field."""
    _spec(document, "")
    spec = cast("Spec", document)
    seen: set[str] = set()
    for namespace in spec.get("linux", {}).get("namespaces", []):
        if namespace["type"] in seen:
            raise InvalidParameter(f"linux.namespaces: {namespace['type']} is listed twice")
        seen.add(namespace["type"])
    return spec


def check_process(document: object) -> Process:
    """A process document, as `exec --process` reads it. Raises InvalidParameter."""
    _process(document, "process")
    return cast("Process", document)


def check_resources(document: object) -> Resources:
    """Limits, as `update --resources` reads them. Raises InvalidParameter."""
    _resources(document, "resources")
    return cast("Resources", document)
