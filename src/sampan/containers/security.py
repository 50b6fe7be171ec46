"""`--security-opt`: parsing and what it decides."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from sampan.errors import InvalidParameter, NotSupported
from sampan.names.booleans import word_for

_SELINUX = "/sys/fs/selinux/enforce"


class SecurityOptions(NamedTuple):
    """What the options of one container say; empty strings mean the default."""

    seccomp: str = ""
    """"", `unconfined`, `builtin`, or a profile as JSON."""
    apparmor: str = ""
    labels: tuple[str, ...] = ()
    no_new_privileges: bool = False
    writable_cgroups: bool | None = None


def parse_security_options(options: Iterable[str], *, no_new_privileges: bool = False) -> SecurityOptions:
    """`no_new_privileges` is what holds when no option says otherwise.

    Raises `InvalidParameter` naming the option that makes no sense.
    """
    result = SecurityOptions(no_new_privileges=no_new_privileges)
    for option in options:
        if option == "no-new-privileges":
            result = result._replace(no_new_privileges=True)
            continue
        if option == "disable":
            result = result._replace(labels=(*result.labels, "disable"))
            continue
        separator = "=" if "=" in option else ":"
        key, found, value = option.partition(separator)
        if not found:
            raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
        match key:
            case "label":
                result = result._replace(labels=(*result.labels, value))
            case "apparmor":
                result = result._replace(apparmor=value)
            case "seccomp":
                result = result._replace(seccomp=value)
            case "no-new-privileges":
                result = result._replace(no_new_privileges=_boolean(value, option))
            case "writable-cgroups":
                result = result._replace(writable_cgroups=_boolean(value, option))
            case _:
                raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return result


def check_labels(labels: Iterable[str]) -> None:
    """Raises `NotSupported` for an SELinux label where the kernel would enforce it; elsewhere dockerd passes labels over too."""
    wanted = [label for label in labels if label != "disable"]
    if wanted and os.path.exists(_SELINUX):
        raise NotSupported(
            f"SELinux labels are not supported: --security-opt label={wanted[0]}: use label=disable"
        )


def _boolean(value: str, option: str) -> bool:
    said = word_for(value)
    if said is None:
        raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return said
