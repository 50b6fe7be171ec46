"""What it means that a container could not be started: dockerd's message, HTTP status and exit code, and a line for people."""

from __future__ import annotations

import re

from sampan import errors
from sampan.runtime.interface import LaunchError

_RUNC = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
_PROCESS = "unable to start container process: "
_INIT = "error during container init: "
_OF_DOCKERD = (
    "unable to find user ",
    "unable to find group ",
    "uids and gids must be in range ",
    "Cannot mkdir: ",
)
"""dockerd finds these out itself, before it asks a runtime: no coat around them."""
_QUOTED = re.compile(r'exec: "?([^":]+)"?')


class StartFailure(errors.SampanError):
    """A start that failed: `exit_code` is what `docker inspect` shows afterwards, `reason` one line for a person."""

    def __init__(self, message: str, exit_code: int, reason: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.reason = reason


class InvalidStart(StartFailure, errors.InvalidParameter):
    """The program cannot be executed (HTTP 400)."""


class ConflictingStart(StartFailure, errors.Conflict):
    """Another container's state is in the way (HTTP 409)."""


class MissingForStart(StartFailure, errors.NotFound):
    """Something that the container needs is gone (HTTP 404)."""


class ForbiddenStart(StartFailure, errors.Forbidden):
    """The network does not allow it (HTTP 403)."""


class FailedStart(StartFailure, errors.SystemFailure):
    """Anything else (HTTP 500)."""


def start_failure(error: Exception) -> StartFailure:
    """The error to raise, and to remember, for what went wrong during a start."""
    if isinstance(error, StartFailure):
        return error
    if isinstance(error, LaunchError):
        return _launch_failure(error)
    for kind, result in (
        (errors.InvalidParameter, InvalidStart),
        (errors.Conflict, ConflictingStart),
        (errors.NotFound, MissingForStart),
        (errors.Forbidden, ForbiddenStart),
    ):
        if isinstance(error, kind):
            return result(str(error), 128)
    return FailedStart(str(error), 128, str(error))


def _launch_failure(error: LaunchError) -> StartFailure:
    if str(error).startswith(_OF_DOCKERD):
        return InvalidStart(str(error), 128)
    message = runtime_message(str(error))
    program = _program(str(error))
    match error.kind:
        case "not-found":
            return InvalidStart(message, 127, f"{program} was not found in the image")
        case "permission":
            return InvalidStart(message, 126, f"{program} is not executable: permission denied")
        case "format":
            return FailedStart(
                message, 128, f"{program} is for another architecture, or is a script without #!"
            )
        case _:
            return FailedStart(message, 128, str(error))


def runtime_message(message: str) -> str:
    """A runtime's message in the coat of layers that dockerd, containerd and runc put around it."""
    if message.startswith("failed to create task"):
        return message
    if message.startswith("OCI runtime"):
        return _RUNC.split("OCI runtime")[0] + message
    for prefix in ("runc create failed: ", _PROCESS):
        message = message.removeprefix(prefix)
    if message.startswith("exec") and not message.startswith(_INIT):
        message = _INIT + message
    tail = "" if message.endswith(": unknown") else ": unknown"
    return f"{_RUNC}{_PROCESS}{message}{tail}"


def exec_message(message: str) -> str:
    """The same for a process that should run in a running container."""
    if message.startswith("OCI runtime"):
        return message
    message = message.removeprefix(_PROCESS)
    tail = "" if message.endswith(": unknown") else ": unknown"
    return f"OCI runtime exec failed: exec failed: {_PROCESS}{message}{tail}"


def _program(message: str) -> str:
    found = _QUOTED.search(message)
    return found[1] if found else "the program"
