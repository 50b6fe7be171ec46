"""SCMP_ACT_NOTIFY: the filter's notification descriptor, from the process that put the filter on to the agent that answers.

The confined process can do little by itself, for any call of it may wait for an agent that has no descriptor yet. So it
writes the descriptor's number to whoever starts it, and that one takes the descriptor out of it (pidfd_getfd(2)) and hands it
to the agent with the "container process state" of the runtime specification. That write is why a filter must not notify of
write(2) (`seccomp.compiler`), as with runc.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from sampan.errors import SystemFailure
from sampan.linux import process, sockets
from sampan.runtime.container.failure import from_message
from sampan.runtime.interface import LaunchError
from sampan.seccomp.install import send_listener

if TYPE_CHECKING:
    import socket

    from sampan.oci.runtime import State
    from sampan.seccomp.interface import Program

OCI_VERSION = "1.2.1"


def agent_of(program: Program | None, state: State, pid: int) -> dict[str, Any] | None:
    """Where the filter's agent listens and what it is told: the process `pid` of the container of `state`. None: there is none."""
    if program is None or not program.listener_path:
        return None
    told: dict[str, Any] = {"ociVersion": OCI_VERSION, "fds": ["seccompFd"], "pid": pid, "state": state}
    if program.listener_metadata:
        told["metadata"] = program.listener_metadata
    return {"path": program.listener_path, "state": told}


def announce(channel: socket.socket, listener: int, agent: dict[str, Any]) -> None:
    """In the confined process: have the agent get `listener`, then close it. Raises LaunchError when it did not."""
    os.write(channel.fileno(), json.dumps({"listener": listener, "agent": agent}).encode())
    answer, _ = sockets.receive(channel)
    if "error" in answer:
        raise from_message(answer)
    os.close(listener)


def deliver(message: dict[str, Any], pidfd: int) -> None:
    """At the other end: give the agent what `announce` wrote of the process `pidfd`. Raises LaunchError."""
    try:
        listener = process.pidfd_getfd(pidfd, message["listener"])
    except OSError as error:
        raise LaunchError(f"taking the seccomp descriptor: {error.strerror}", "other") from error
    try:
        send_listener(message["agent"]["path"], listener, message["agent"]["state"])
    except SystemFailure as error:
        raise LaunchError(str(error), "other") from error
    finally:
        os.close(listener)
