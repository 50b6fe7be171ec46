"""`docker logs`: a container's log, as frames or raw bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from sampan.containers.container import Container

if TYPE_CHECKING:
    from sampan.containers.services import Services


class LogRequest(NamedTuple):
    """Which part of the log, and in which form. Times as clients send them: unix, RFC 3339 or a duration."""

    stdout: bool = True
    stderr: bool = True
    since: str = ""
    until: str = ""
    tail: str = "all"
    timestamps: bool = False
    details: bool = False
    follow: bool = False


class Logs:
    """Reads logs."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def read(self, container: Container, request: LogRequest) -> AsyncIterator[bytes]:
        raise NotImplementedError
