"""Receiving a terminal's master side: the program sends it over a socket that it is given by `--console-socket`."""

from __future__ import annotations

import os
import socket

from sampan.runtime.interface import LaunchError

_NAME = "console.sock"


class Console:
    """A listening socket for one terminal. `receive` once the program has ended, `close` always."""

    def __init__(self, directory: str) -> None:
        """`directory`: one that nobody else can enter."""
        self._path = f"{directory}/{_NAME}"
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(f"/proc/self/fd/{self._directory}/{_NAME}")
            self._socket.listen(1)
            self._socket.setblocking(False)
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> str:
        """For the program: through our descriptor, since the plain path may be longer than a socket's name can be."""
        return f"/proc/{os.getpid()}/fd/{self._directory}/{_NAME}"

    def receive(self) -> int:
        """The master. Raises LaunchError when the program has sent none."""
        try:
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(5)
                _, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise LaunchError(f"the runtime has sent no terminal: {error}", "other") from error
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                return int.from_bytes(data[:4], "little")
        raise LaunchError("the runtime has sent no terminal", "other")

    def close(self) -> None:
        self._socket.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        os.close(self._directory)
