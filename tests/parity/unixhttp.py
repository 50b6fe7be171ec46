"""HTTP over an engine's socket."""

from __future__ import annotations

import http.client
import socket
import time
from typing import NamedTuple

SECONDS = 60
"""That an answer may take, to its last byte."""


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
    """One request on a connection of its own; text is sent as JSON, bytes as a tar archive. Raises OSError.

    TimeoutError when the answer does not end.
    """
    kind = "application/json" if isinstance(body, str) else "application/x-tar"
    connection = _Connection(socket_path)
    try:
        deadline = time.monotonic() + SECONDS
        connection.request(method, path, body, {} if body is None else {"Content-Type": kind})
        answer = connection.getresponse()
        data = b""
        while piece := answer.read1(1 << 20):
            data += piece
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path}: the answer does not end")
        return Answer(answer.status, data)
    finally:
        connection.close()
