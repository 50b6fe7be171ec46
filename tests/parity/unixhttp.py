"""HTTP over an engine's socket."""

from __future__ import annotations

import http.client
import socket
from typing import NamedTuple

SECONDS = 60


class Answer(NamedTuple):
    """What the engine said."""

    status: int
    data: bytes


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


def ask(socket_path: str, method: str, path: str, body: str | bytes | None = None) -> Answer:
    """One request on a connection of its own; text is sent as JSON, bytes as a tar archive. Raises OSError."""
    kind = "application/json" if isinstance(body, str) else "application/x-tar"
    connection = _Connection(socket_path)
    try:
        connection.request(method, path, body, {} if body is None else {"Content-Type": kind})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())
    finally:
        connection.close()
