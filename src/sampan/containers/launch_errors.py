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
_STEPS_OF_INIT = (
    "exec",
    "error mounting ",
    "error setting rlimits ",
    "can't mask paths",
    "unable to apply apparmor profile",
)
_WRONG_KIND = (
    ": Are you trying to mount a directory onto a file (or vice-versa)?"
    " Check if the specified host path exists and is the expected type"
)
"""dockerd's own hint, after containerd's `unknown`."""
_WORKING_DIRECTORY = re.compile(r'chdir to cwd \("(.*)"\) set in config\.json failed: not a directory')
_QUOTED = re.compile(r'exec:? "?([^":]+)"?')
_IN_PARENTHESES = re.compile(r" \((it.*|the file is empty|a byte order mark.*|perhaps .*)\)$")


class StartFailure(errors.SampanError):
    """A start that failed: `exit_code` is what `docker inspect` shows afterwards, `reason` one line for a person."""

    def __init__(self, message: str, exit_code: int = 128, reason: str = "") -> None:
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
    text = f"{error.filename}: {errors.reason_of(error)}" if isinstance(error, OSError) else str(error)
    return FailedStart(text, 128, text)


def _launch_failure(error: LaunchError) -> StartFailure:
    if found := _WORKING_DIRECTORY.search(str(error)):
        return InvalidStart(f"Cannot mkdir: {found[1]} is not a directory", 128)
    if str(error).startswith(_OF_DOCKERD):
        return InvalidStart(str(error), 128)
    message = runtime_message(str(error))
    program, detail = _program(str(error)), _detail(str(error))
    match error.kind:
        case "not-found":
            return InvalidStart(message, 127, f"{program}: {detail or 'it was not found in the image'}")
        case "permission":
            directory = message.endswith("is a directory: unknown")
            if directory:
                message += ": permission denied"
            why = "it is a directory" if directory else "it is not executable (see chmod +x)"
            return InvalidStart(message, 126, f"{program}: {detail or why}")
        case "format":
            why = "it is no program of this machine's kind"
            return FailedStart(message, 128, f"{program}: {detail or why}")
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
    if message.startswith('sysctl "'):
        return f"{_RUNC}{message}: unknown"  # runc checks these before it makes a process
    message = _within_init(message)
    tail = "" if message.endswith(": unknown") else ": unknown"
    if message.startswith(_INIT + "error mounting ") and message.endswith(": not a directory"):
        tail += _WRONG_KIND
    return f"{_RUNC}{_PROCESS}{message}{tail}"


def _within_init(message: str) -> str:
    """runc says of most steps that they are its init's."""
    if message.startswith("failed to write "):
        real_time = "/cpu.rt_" in message
        where = "unable to apply cgroup configuration: "
        return (
            where + message
            if real_time
            else f"{_INIT}error setting cgroup config for procHooks process: {message}"
        )
    return _INIT + message if message.startswith(_STEPS_OF_INIT) else message


def exec_failure(error: LaunchError) -> StartFailure:
    """The same for a process that should run in a running container."""
    text = str(error)
    message = _exec_message(text)
    if error.kind == "not-found" or ": no such file or directory" in text:
        return InvalidStart(message, 127)
    if ": not a directory" in text:
        return InvalidStart(message + _WRONG_KIND, 127)
    if text.endswith("is a directory"):
        return InvalidStart(message + ": permission denied", 126)
    if error.kind == "permission":
        return InvalidStart(message, 126)
    return FailedStart(message, 126 if error.kind == "format" else 128)


def _exec_message(message: str) -> str:
    if message.startswith("OCI runtime"):
        return message
    process = "" if message.startswith("Cwd must be") else _PROCESS
    message = message.removeprefix(_PROCESS)
    tail = "" if message.endswith(": unknown") else ": unknown"
    hint = _WRONG_KIND if "not a directory" in message and "chdir to cwd" not in message else ""
    return f"OCI runtime exec failed: exec failed: {process}{message}{tail}{hint}"


def _detail(message: str) -> str:
    """What `runtime.container.diagnosis` has added."""
    found = _IN_PARENTHESES.search(message)
    return found[1] if found else ""


def _program(message: str) -> str:
    found = _QUOTED.search(message)
    return found[1] if found else "the program"
