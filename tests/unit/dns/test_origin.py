"""From where a name server is asked: sockets made by a visitor, and those that are made without a visit."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from sampan.dns.origin import Origin


class Visits:
    """Counts, and stays where it is."""

    def __init__(self, error: OSError | None = None) -> None:
        self.made: list[int] = []
        self._error = error

    async def run(self, netns: int, function: Callable[[], Any]) -> Any:
        self.made.append(netns)
        made = function()
        if self._error is None:
            return made
        made.close()
        return Failing(self._error)


class Failing(socket.socket):
    """A socket of a namespace without a way out."""

    def __init__(self, error: OSError) -> None:
        super().__init__(socket.AF_INET6, socket.SOCK_DGRAM)
        self._error = error

    def connect(self, address: Any) -> None:
        raise self._error


def opened(origin: Origin, host: str, kind: socket.SocketKind = socket.SOCK_DGRAM) -> None:
    asyncio.run(origin.open(host, 53, kind)).close()
    origin.close()


@pytest.mark.parametrize(
    ("host", "own_servers", "visits"),
    [("192.0.2.1", False, 1), ("127.0.0.53", False, 0), ("127.0.0.53", True, 1), ("::1", False, 0)],
)
def test_who_is_asked_from_where(host: str, own_servers: bool, visits: int) -> None:
    visitor = Visits()
    with open(os.devnull) as file:
        opened(Origin(visitor, file.fileno(), own_servers=own_servers), host, socket.SOCK_STREAM)
    assert len(visitor.made) == visits


def test_an_ipv6_server_of_the_hosts_that_the_container_cannot_reach() -> None:
    """It is asked from the host; one of the container's own choice is not."""
    with open(os.devnull) as file:
        for own_servers in (False, True):
            visitor = Visits(OSError(101, "Network is unreachable"))
            origin = Origin(visitor, file.fileno(), own_servers=own_servers)
            if own_servers:
                with pytest.raises(OSError, match="unreachable"):
                    opened(origin, "::ffff:127.0.0.1")
                origin.close()
            else:
                opened(origin, "::ffff:127.0.0.1")
            assert len(visitor.made) == 1


def test_closing_closes_its_own_descriptor_once() -> None:
    with open(os.devnull) as file:
        origin = Origin(Visits(), file.fileno(), own_servers=False)
        origin.close()
        origin.close()
        os.fstat(file.fileno())
