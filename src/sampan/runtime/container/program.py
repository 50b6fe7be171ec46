"""Finding the container's program and executing it; and when that fails, saying why in runc's words."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from sampan.runtime.container import diagnosis
from sampan.runtime.container.failure import reason
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.runtime.container.failure import Kind

_KINDS: dict[int, Kind] = {
    errno.ENOENT: "not-found",
    errno.ENOTDIR: "not-found",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.EISDIR: "permission",
    errno.ENOEXEC: "format",
}


def environment_of(entries: list[str]) -> dict[str, str]:
    """`NAME=value` entries as a mapping; of duplicates the last counts, entries without a name are dropped."""
    environment: dict[str, str] = {}
    for entry in entries:
        name, _, value = entry.partition("=")
        if name and "\0" not in entry:
            environment[name] = value
    return environment


def find(name: str, environment: dict[str, str]) -> str:
    """The program's path, looked up as the container's user in the container's root. Raises LaunchError.

    Both must be in force already: a lookup before would answer for the wrong files, and for root.
    """
    if not name:
        raise LaunchError('exec: "": executable file not found in $PATH', "not-found")
    if "/" in name:
        _check(name)
        return name
    for directory in environment.get("PATH", "").split(":"):
        path = os.path.join(directory or ".", name)
        try:
            _check(path)
        except LaunchError:
            continue
        # A relative entry of PATH would make the program depend on the working directory: refused, as Go does.
        if not path.startswith("/"):
            raise LaunchError(
                f'exec: "{name}": cannot run executable found relative to current directory', "not-found"
            )
        return path
    raise LaunchError(f'exec: "{name}": executable file not found in $PATH', "not-found")


def _check(path: str) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        kind = _KINDS.get(error.errno or 0, "other")
        raise LaunchError(f'exec: "{path}": stat {path}: {reason(error)}', kind) from error
    if stat.S_ISDIR(status.st_mode):
        raise LaunchError(f'exec: "{path}": is a directory', "permission")
    if not os.access(path, os.X_OK, effective_ids=True):
        raise LaunchError(f'exec: "{path}": permission denied', "permission")


def execute(path: str, arguments: list[str], environment: dict[str, str]) -> LaunchError:
    """Become the program; only a failure returns."""
    try:
        os.execve(path, arguments, environment)
    except OSError as error:
        return LaunchError(f"exec {path}: {reason(error)}{diagnosis.detail(path, error)}", _kind(error))
    except ValueError:
        return LaunchError(f"exec {path}: invalid argument", "other")


def _kind(error: OSError) -> Kind:
    return _KINDS.get(error.errno or 0, "other")
