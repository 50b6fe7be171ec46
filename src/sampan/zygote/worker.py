"""What a worker process executes: one function call, its result sent as one message. See `workers`."""

from __future__ import annotations

import importlib
import signal
import socket
import sys
from typing import Any

import sampan.errors
from sampan.linux import process, sockets

_DEPTH = 20_000
"""Frames: walks of trees recurse, and a path may name 2,048 directories."""


def main(args: dict[str, Any], descriptors: list[int]) -> int:
    """Entry after the fork: descriptor 0 of the list is the result socket, the others are the function's."""
    # A worker has no life of its own: without the engine its result is worth nothing.
    # It dies with the zygote, which ends with the engine: a job that went on would write beside the next engine.
    process.set_name("sampan-worker")
    process.set_parent_death_signal(signal.SIGKILL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    _forget_oom_score()
    result = socket.socket(fileno=descriptors[0])
    sys.setrecursionlimit(_DEPTH)
    try:
        module, _, name = args["target"].partition(":")
        function = getattr(importlib.import_module(module), name)
        outcome: dict[str, Any] = {
            "result": function(
                args["args"], descriptors[1:], lambda report: sockets.send(result, {"progress": report})
            )
        }
    except BrokenPipeError:
        return 1  # nobody listens any more: cancelled
    except BaseException as error:
        outcome = {"error": describe(error)}
    try:
        sockets.send(result, outcome)
    except BrokenPipeError:
        return 1
    return 0


def _forget_oom_score() -> None:
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("0")
    except OSError:
        pass


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as JSON: its class name if it is one of `sampan.errors` or an OSError, and its message."""
    for kind in type(error).__mro__:
        if getattr(sampan.errors, kind.__name__, None) is kind:
            return {"kind": kind.__name__, "message": str(error)}
    if isinstance(error, OSError) and error.errno is not None:
        return {
            "kind": "OSError",
            "errno": error.errno,
            "message": error.strerror,
            "file": _text(error.filename),
        }
    return {"kind": "", "message": f"{type(error).__name__}: {error}"}


def restore(description: dict[str, Any]) -> Exception:
    """The exception that `describe` described; of an unknown class it is a SystemFailure."""
    kind = description["kind"]
    if kind == "OSError":
        return OSError(description["errno"], description["message"], description["file"])
    found = getattr(sampan.errors, kind, None) if kind else None
    if isinstance(found, type) and issubclass(found, Exception):
        error: Exception = found(description["message"])
        return error
    return sampan.errors.SystemFailure(description["message"])


def _text(filename: object) -> str | None:
    return None if filename is None else str(filename)
