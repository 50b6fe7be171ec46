"""What an OCI runtime program says when it fails: found in its log, put into Docker's words, and understood.

containerd tells dockerd `OCI runtime create failed: <the last error in the program's log>: unknown`, dockerd adds its own
beginning, and the docker CLI makes 125, 126 or 127 of the words in it.
"""

from __future__ import annotations

import errno
import json
import os
from typing import Literal

from sampan.runtime.interface import LaunchError

Kind = Literal["not-found", "permission", "format", "other"]

_NOT_FOUND = ("executable file not found in $PATH", "no such file or directory")
_PERMISSION = ("permission denied", "is a directory")
_SHOWN_ERRNOS = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.EISDIR, errno.ENOEXEC, errno.ELOOP)
_MOST = 1 << 20
"""Bytes of a log that are read."""


def last_error(log: str) -> str:
    """The last message of level error in a JSON log; "" when there is none.

    Raises OSError when there is no log, ValueError when it is not a log.
    """
    found = ""
    with open(log, encoding="utf-8", errors="replace") as file:
        for line in file.read(_MOST).splitlines():
            if not line.strip():
                continue
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("level") == "error":
                found = str(entry.get("msg", ""))
    return found


def failure(action: str, log: str, outcome: str) -> LaunchError:
    """The error to raise when `action` (create, start, exec…) failed; `outcome` is how the program itself ended."""
    try:
        said = last_error(log)
    except OSError as error:
        reason = f"open {log}: {(error.strerror or '').lower()}"
        text = f"unable to retrieve OCI runtime error ({reason}): {outcome}"
    except ValueError as error:
        text = f"unable to retrieve OCI runtime error ({error}): {outcome}"
    else:
        text = _as_go_says(said) if said else outcome
    return LaunchError(f"OCI runtime {action} failed: {text}: unknown", kind_of(text))


def kind_of(message: str) -> Kind:
    """What the docker CLI reads in a message, too."""
    if "exec format error" in message:
        return "format"
    # A mount whose source is missing is not a program that is missing.
    if "error mounting" not in message and any(words in message for words in _NOT_FOUND):
        return "not-found"
    return "permission" if any(words in message for words in _PERMISSION) else "other"


def _as_go_says(message: str) -> str:
    """crun ends its messages with strerror's words, which begin with a capital: clients look for Go's."""
    for number in _SHOWN_ERRNOS:
        spoken = os.strerror(number)
        if message.endswith(": " + spoken):
            return message.removesuffix(spoken) + spoken.lower()
    return message
