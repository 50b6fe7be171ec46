"""Putting a compiled filter on the calling thread. seccomp(2)."""

from __future__ import annotations

import ctypes
import errno
import json
import socket
import struct
from typing import TYPE_CHECKING, Any

from sampan.errors import SystemFailure
from sampan.linux.libc import syscall, syscall_number
from sampan.seccomp.compiler import NEW_LISTENER

if TYPE_CHECKING:
    from sampan.seccomp.interface import Program

_SET_MODE_FILTER = 1
_AGENT_SECONDS = 10.0
"""How long an agent may take to accept a connection: whoever starts a container waits for it."""


class _Filter(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def install(program: Program) -> int | None:
    """Confine the calling thread and whatever it becomes, for ever. Returns the listener's descriptor, if the program
    has notifications.

    The caller has CAP_SYS_ADMIN in its user namespace or has set no-new-privileges. Everything that it still has to do
    must be allowed by the filter, up to and including execve. Raises SystemFailure; then nothing is confined, and
    the caller must not go on.
    """
    instructions = ctypes.create_string_buffer(program.instructions, len(program.instructions))
    filter_ = _Filter(len(program.instructions) // 8, ctypes.addressof(instructions))
    flags = program.flags
    number = syscall_number("seccomp")
    while True:
        try:
            result = syscall(number, _SET_MODE_FILTER, flags, ctypes.byref(filter_))
        except OSError as error:
            # Older kernels (SPEC_ALLOW: before 4.17) refuse flags that only make things faster or louder.
            if error.errno == errno.EINVAL and flags & ~NEW_LISTENER:
                flags &= NEW_LISTENER
                continue
            raise SystemFailure(f"error loading seccomp filter: {error.strerror}") from error
        return result if flags & NEW_LISTENER else None


def send_listener(path: str, listener: int, state: dict[str, Any]) -> None:
    """Hand a notification descriptor to the agent that listens at `path`, with the container's state document.

    To be called by the parent (which gets the descriptor with pidfd_getfd): the confined process may be unable to
    send without the agent's leave. The message is the runtime specification's "container process state".
    Raises SystemFailure when nobody listens.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_AGENT_SECONDS)
        try:
            connection.connect(path)
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", listener))]
            connection.sendmsg([json.dumps(state).encode()], ancillary)
        except OSError as error:
            raise SystemFailure(
                f"failed to send the seccomp descriptor to {path}: {(error.strerror or str(error)).lower()}"
            ) from error
