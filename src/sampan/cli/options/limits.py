"""`--ulimit`, `--device…`, `--blkio-weight-device`, `--restart`, `--health-…`."""

from __future__ import annotations

import csv
import os
import re
from typing import TYPE_CHECKING, Any

from sampan.cli.values import read_memory
from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_ULIMITS = frozenset(
    [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)
_PERMISSIONS = r"[rwm]+"
_CDI = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*=[\w.:-]+"


def ulimit(spec: str) -> dict[str, Any]:
    """`NAME=SOFT[:HARD]`.

    >>> ulimit("nofile=1024:2048")
    {'Name': 'nofile', 'Soft': 1024, 'Hard': 2048}
    """
    name, separator, value = spec.partition("=")
    if not separator:
        raise InvalidParameter(f"invalid ulimit argument: {spec}")
    if name not in _ULIMITS:
        raise InvalidParameter(f"invalid ulimit type: {name}")
    parts = value.split(":")
    if len(parts) > 2:
        raise InvalidParameter(
            f"too many limit value arguments - {value}, can only have up to two, `soft[:hard]`"
        )
    soft, hard = _limit(parts[0]), _limit(parts[-1])
    if hard != -1 and (soft > hard or soft == -1):
        raise InvalidParameter(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Soft": soft, "Hard": hard}


def _limit(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidParameter(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def devices(specs: Iterable[str]) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """`--device`: (Devices, DeviceRequests); a CDI name (vendor/class=device) is a request."""
    found, cdi = [], []
    for spec in specs:
        if re.fullmatch(_CDI, spec):
            cdi.append(spec)
        else:
            found.append(_device(spec))
    return found, [{"Driver": "cdi", "DeviceIDs": cdi}] if cdi else []


def gpus(spec: str) -> dict[str, Any]:
    """`--gpus`: `all`, a number, or `device=0,driver=…,capabilities=…,options=…` as CSV.

    >>> gpus("2")["Count"], gpus('"device=0,1"')["DeviceIDs"]
    (2, ['0', '1'])
    """
    request: dict[str, Any] = {"Driver": "", "Count": 0, "Capabilities": [["gpu"]]}
    fields = next(csv.reader([spec]))
    for number, field in enumerate(fields):
        key, equals, value = field.partition("=")
        if not equals and number == 0:
            key, value = "count", field
        match key:
            case "driver":
                request["Driver"] = value
            case "count":
                request["Count"] = -1 if value == "all" else _gpu_count(value)
            case "device":
                request["DeviceIDs"] = value.split(",")
            case "capabilities":
                request["Capabilities"] = [[*value.split(","), "gpu"]]
            case "options":
                request["Options"] = dict(entry.partition("=")[::2] for entry in value.split(","))
            case _:
                raise InvalidParameter(f"unexpected key '{key}' in '{field}'")
    if not request["Count"] and "DeviceIDs" not in request:
        request["Count"] = 1
    return request


def _gpu_count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidParameter(
            f'invalid count ({text}): value must be either "all" or an integer: invalid syntax'
        ) from None


def _device(spec: str) -> dict[str, str]:
    host, *rest = spec.split(":")
    container, permissions = host, "rwm"
    if len(rest) == 2:
        container, permissions = rest
    elif len(rest) == 1 and re.fullmatch(_PERMISSIONS, rest[0]):
        permissions = rest[0]
    elif len(rest) == 1:
        container = rest[0] or host
    elif rest:
        raise InvalidParameter(f"bad format for path: {spec}")
    if not re.fullmatch(_PERMISSIONS, permissions):
        raise InvalidParameter(f"bad mode specified: {permissions}")
    if not os.path.isabs(host):
        raise InvalidParameter(f"{spec} is not an absolute path")
    return {"PathOnHost": host, "PathInContainer": container, "CgroupPermissions": permissions}


def byte_rate(spec: str) -> dict[str, Any]:
    """`--device-read-bps /dev/sda:1mb` and its kin."""
    return _rate(
        spec,
        read_memory,
        "<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb",
    )


def operation_rate(spec: str) -> dict[str, Any]:
    """`--device-read-iops /dev/sda:1000` and its kin."""
    return _rate(spec, int, "<number>. Number must be a positive integer")


def _rate(spec: str, read: Callable[[str], int], wanted: str) -> dict[str, Any]:
    path, text = _device_value(spec)
    try:
        number = read(text)
    except ValueError:
        number = -1
    if number < 0:
        raise InvalidParameter(
            f"invalid rate for device: {spec}. The correct format is <device-path>:{wanted}"
        )
    return {"Path": path, "Rate": number}


def weight(spec: str) -> dict[str, Any]:
    """`--blkio-weight-device /dev/sda:500`."""
    path, text = _device_value(spec)
    if not text.isdecimal() or not (text == "0" or 10 <= int(text) <= 1000):
        raise InvalidParameter(f"invalid weight for device: {spec}")
    return {"Path": path, "Weight": int(text)}


def _device_value(spec: str) -> tuple[str, str]:
    path, separator, text = spec.partition(":")
    if not separator:
        raise InvalidParameter(f"bad format: {spec}")
    if not path.startswith("/dev/"):
        raise InvalidParameter(f"bad format for device path: {spec}")
    return path, text


def restart_policy(text: str) -> dict[str, Any]:
    """`no`, `always`, `unless-stopped`, `on-failure[:MAX]`."""
    name, separator, count = text.partition(":")
    if not text:
        return {"Name": "no", "MaximumRetryCount": 0}
    if separator and not name:
        raise InvalidParameter("invalid restart policy format: no policy provided before colon")
    if count and not re.fullmatch(r"-?\d+", count):
        raise InvalidParameter("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def healthcheck(flags: Mapping[str, Any]) -> dict[str, Any] | None:
    """The API's HealthConfig; None when no flag speaks of it."""
    times = {
        "Interval": flags["health_interval"],
        "Timeout": flags["health_timeout"],
        "StartPeriod": flags["health_start_period"],
        "StartInterval": flags["health_start_interval"],
    }
    given = bool(flags["health_cmd"] or flags["health_retries"] or any(times.values()))
    if flags["no_healthcheck"]:
        if given:
            raise InvalidParameter("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not given:
        return None
    for name, value in times.items():
        if value < 0:
            words = {"Interval": "interval", "Timeout": "timeout", "StartPeriod": "start-period"}
            raise InvalidParameter(f"--health-{words.get(name, 'start-interval')} cannot be negative")
    if flags["health_retries"] < 0:
        raise InvalidParameter("--health-retries cannot be negative")
    probe: dict[str, Any] = {"Retries": flags["health_retries"], **times}
    if flags["health_cmd"]:
        probe["Test"] = ["CMD-SHELL", flags["health_cmd"]]
    return probe
