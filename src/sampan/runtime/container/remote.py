"""Starting a container made by another process, and the state document: what `start` needs, and no more."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from sampan.linux import sockets
from sampan.runtime.container.failure import from_message
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import State
    from sampan.runtime.container.config import InitConfig

OCI_VERSION = "1.2.1"


def start_remote(directory: int, name: str) -> None:
    """Start a created container through its listening socket `name` in the directory. Raises LaunchError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with connection:
        # By way of /proc/self/fd: a socket's path may have 107 bytes only.
        connection.connect(f"/proc/self/fd/{directory}/{name}")
        start_over(connection)


def start_over(channel: socket.socket) -> None:
    """Tell a stub to execute its program; returns when it did. Raises LaunchError."""
    try:
        sockets.send(channel, {"start": True})
        answer, _ = sockets.receive(channel)
    except sockets.Disconnected:
        return  # the stub's end was close-on-exec
    except OSError as error:
        raise LaunchError(f"cannot start an already running container: {error.strerror}", "other") from error
    raise from_message(answer)


def state_document(config: InitConfig, status: str, pid: int) -> str:
    """The state document of the specification, as JSON, for hooks."""
    state: State = {
        "ociVersion": OCI_VERSION,
        "id": config["id"],
        "status": status,  # type: ignore[typeddict-item]
        "pid": pid,
        "bundle": config["bundle"],
    }
    annotations = config["spec"].get("annotations")
    if annotations:
        state["annotations"] = annotations
    return json.dumps(state)
