"""What a shim leaves in the bundle for an engine to come: who it is, and how its container ended.

`state.json`  written when the container is created: processes by pid and start time, boot id, cgroup
`exit.json`   written when init has ended, before anybody is told
"""

from __future__ import annotations

import json
import os
from typing import Any

STATE = "state.json"
EXIT = "exit.json"
_ROOM = 1024
"""Bytes, more than any record has."""


def write(bundle: str, name: str, record: dict[str, Any]) -> None:
    """Replace the record atomically: a reader sees the old one, the new one, never half of one.

    Not synchronously: after a power loss there is no such process any more, and a bundle lies on a tmpfs anyway. Raises OSError.
    """
    _write_part(bundle, name, json.dumps(record).encode())
    os.rename(f"{bundle}/{name}.part", f"{bundle}/{name}")


def reserve(bundle: str) -> None:
    """Have room for both records to come, however full the file system is by then. Raises OSError."""
    for name in (STATE, EXIT):
        _write_part(bundle, name, b"")


def _write_part(bundle: str, name: str, data: bytes) -> None:
    descriptor = os.open(f"{bundle}/{name}.part", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Written over what was reserved: JSON does not mind the spaces.
        os.write(descriptor, data.ljust(_ROOM))
    finally:
        os.close(descriptor)


def read(bundle: str, name: str) -> dict[str, Any] | None:
    """The record; None when there is none (or one from a power loss, torn)."""
    try:
        with open(f"{bundle}/{name}", "rb") as file:
            record = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def remove(bundle: str) -> None:
    """Remove the records."""
    for name in (STATE, EXIT, f"{STATE}.part", f"{EXIT}.part"):
        try:
            os.unlink(f"{bundle}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            pass


def remove_bundle(bundle: str) -> None:
    """Remove the directory, unless there is something in it that is not ours. Not left to the engine, whom the file system's
    journal would make wait, and everybody with it."""
    try:
        os.rmdir(bundle)
    except OSError:
        pass
