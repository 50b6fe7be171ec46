"""Kernel parameters of a container: only those that belong to a namespace of its own. sysctl(8)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sampan.runtime.container.failure import Step
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from sampan.runtime.container.procfs import Proc

_IPC = frozenset(
    {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"}
    | {"kernel.shmmni", "kernel.shm_rmid_forced"}
)
_NOT_SEPARATE = "is not in a separate kernel namespace"
_NAME = re.compile(r"[A-Za-z0-9_.:/-]+")


def check(sysctls: Mapping[str, str], private: Container[str]) -> None:
    """Refuse a parameter that would change the host. `private`: namespace types that are not the host's.

    Raises LaunchError in runc's words.
    """
    for name in sysctls:
        key = _normalised(name)
        # Judged on the path that will be written: `net/../kernel/core_pattern` begins harmlessly.
        parts = _path(name).split("/")
        if not _NAME.fullmatch(name) or not all(part.strip(".") for part in parts):
            raise LaunchError(f'sysctl "{name}" is not a valid name', "other")
        if key in _IPC or key.startswith("fs.mqueue."):
            needed = "ipc"
        elif key.startswith("net."):
            needed = "network"
        elif key == "kernel.domainname":
            needed = "uts"
        elif key == "kernel.hostname":
            raise LaunchError(f'sysctl "{name}" conflicts with OCI config.Hostname', "other")
        else:
            raise LaunchError(f'sysctl "{name}" {_NOT_SEPARATE}', "other")
        if needed not in private:
            where = "not allowed in host network namespace" if needed == "network" else _NOT_SEPARATE
            raise LaunchError(f'sysctl "{name}" {where}', "other")


def write(proc: Proc, sysctls: Mapping[str, str]) -> None:
    """Set them through the genuine /proc (CVE-2025-52881). Raises LaunchError."""
    for name, value in sysctls.items():
        with Step(f'open sysctl "{name}"'):
            proc.write("sys/" + _path(name), value)


def _normalised(name: str) -> str:
    """With dots between the parts: sysctl(8) takes slashes too, where dots are then part of a name."""
    first = next((character for character in name if character in "./"), ".")
    return name.translate({ord("."): "/", ord("/"): "."}) if first == "/" else name


def _path(name: str) -> str:
    return _normalised(name).translate({ord("."): "/", ord("/"): "."})
