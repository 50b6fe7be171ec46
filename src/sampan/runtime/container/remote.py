"""Starting a container made by another process, and the state document: what `start` needs, and no more."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

from sampan.linux import sockets
from sampan.runtime.container import notification
from sampan.runtime.container.failure import from_message, to_message
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import State
    from sampan.runtime.container.config import InitConfig


def start_remote(directory: int, name: str, pid: int) -> None:
    """Start a created container, whose init is `pid`, through its listening socket `name` in the directory. Raises LaunchError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with connection:
        # By way of /proc/self/fd: a socket's path may have 107 bytes only.
        connection.connect(f"/proc/self/fd/{directory}/{name}")
        pidfd = os.pidfd_open(pid)
        try:
            start_over(connection, pidfd)
        finally:
            os.close(pidfd)


def start_over(channel: socket.socket, pidfd: int) -> None:
    """Tell the stub `pidfd` to execute its program; returns when it did. Raises LaunchError."""
    try:
        sockets.send(channel, {"start": True})
        answer, _ = sockets.receive(channel)
        if "listener" in answer:
            sockets.send(channel, _delivered(answer, pidfd))
            answer, _ = sockets.receive(channel)
    except sockets.Disconnected:
        return  # the stub's end was close-on-exec
    except OSError as error:
        raise LaunchError(f"cannot start an already running container: {error.strerror}", "other") from error
    raise from_message(answer)


def _delivered(message: dict[str, Any], pidfd: int) -> dict[str, object]:
    """The answer to a stub that has a notification descriptor for its agent."""
    try:
        notification.deliver(message, pidfd)
    except LaunchError as error:
        return to_message(error)
    return {}


def state_of(config: InitConfig, status: str, pid: int) -> State:
    """The state document of the specification."""
    state: State = {
        "ociVersion": notification.OCI_VERSION,
        "id": config["id"],
        "status": status,  # type: ignore[typeddict-item]
        "pid": pid,
        "bundle": config["bundle"],
    }
    annotations = config["spec"].get("annotations")
    if annotations:
        state["annotations"] = annotations
    return state


def state_document(config: InitConfig, status: str, pid: int) -> str:
    """The same as JSON, for hooks."""
    return json.dumps(state_of(config, status, pid))
