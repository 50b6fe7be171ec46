"""The values of `run`'s flags that are more than text: read, and refused, where the command line is parsed.

A mistake in one is docker's `invalid argument "…" for "--…" flag: …`, before anything is sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sampan.cli.flags import Value
from sampan.cli.options import limits, mounts, networks, texts
from sampan.cli.values import read_memory
from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable

_STREAMS = ("stdin", "stdout", "stderr")
_DOMAIN = re.compile(
    r"(:?(:?[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(:?\.(:?[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*)\.?"
)
_DEVICE_RULE = re.compile(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}")
_SYSCTLS = frozenset(
    [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ]
)


def _kind(name: str, read: Callable[[str], Any]) -> Value:
    """A kind of value whose reader raises `InvalidParameter`. Named `string`, help calls a repeated one a list."""

    def checked(text: str) -> Any:
        try:
            return read(text)
        except InvalidParameter as error:
            raise ValueError(str(error)) from None

    return Value(name, checked)


def _stream(text: str) -> str:
    lowered = text.lower()
    if lowered not in _STREAMS:
        raise InvalidParameter("valid streams are STDIN, STDOUT and STDERR")
    return lowered


def _address(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise InvalidParameter(f"IP address is not correctly formatted: {text}") from None


def _search_domain(text: str) -> str:
    stripped = text.strip(" ")
    if stripped != "." and not _DOMAIN.fullmatch(stripped):
        raise InvalidParameter(f"{text} is not a valid domain")
    return stripped


def _device_rule(text: str) -> str:
    if not _DEVICE_RULE.fullmatch(text):
        raise InvalidParameter(f"invalid device cgroup format '{text}'")
    return text


def _link(text: str) -> str:
    if not text:
        raise InvalidParameter("empty string specified for links")
    if len(text.split(":")) > 2:
        raise InvalidParameter(f"bad format for links: {text}")
    return text


def _sysctl(text: str) -> str:
    name, separator, _ = text.partition("=")
    if not separator or not (name in _SYSCTLS or name.startswith(("net.", "fs.mqueue."))):
        raise InvalidParameter(f"sysctl '{text}' is not allowed")
    return text


def _shm_size(text: str) -> int:
    if (size := read_memory(text)) < 0:
        raise InvalidParameter(f"invalid size: '{text}'")
    return size


STREAM = _kind("string", _stream)
ADDRESS = _kind("string", _address)
SEARCH_DOMAIN = _kind("string", _search_domain)
DEVICE_RULE = _kind("string", _device_rule)
ENVIRONMENT = _kind("string", texts.variable)
EXTRA_HOST = _kind("string", texts.extra_host)
LABEL = _kind("string", texts.label)
LINK = _kind("string", _link)
SYSCTL = _kind("map", _sysctl)
DEVICE_WEIGHT = _kind("string", limits.weight)
BYTE_RATE = _kind("string", limits.byte_rate)
OPERATION_RATE = _kind("string", limits.operation_rate)
ULIMIT = _kind("ulimit", limits.ulimit)
GPUS = _kind("gpu-request", limits.gpus)
MOUNT = _kind("mount", mounts.parse_mount)
NETWORK = _kind("network", networks.attachment)
SHM_SIZE = _kind("bytes", _shm_size)
