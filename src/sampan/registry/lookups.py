"""Host names to addresses, with a short memory for those that have none.

Where nothing answers the resolver, each lookup takes the ten seconds that it waits and waits again; and one pull asks several
times for the same name: whether it is local, for TLS, for plain HTTP.
"""

from __future__ import annotations

import asyncio
import socket
import time

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

_MEMORY_SECONDS = 10.0
_failed: dict[str, tuple[float, OSError]] = {}
"""Host → until when it is not asked for again, and how it failed. Of the process, as the resolver is."""


class RememberingResolver(ThreadedResolver, AbstractResolver):
    """aiohttp's resolver."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        _raise_remembered(host)
        try:
            return await super().resolve(host, port, family)
        except OSError as error:
            _remember(host, error)
            raise


async def addresses(host: str) -> list[str]:
    """All addresses of a host. Raises OSError, UnicodeError when it has none."""
    _raise_remembered(host)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        _remember(host, error)
        raise
    return [str(entry[4][0]).partition("%")[0] for entry in found]


def _raise_remembered(host: str) -> None:
    until, error = _failed.get(host, (0.0, OSError()))
    if until > time.monotonic():
        raise OSError(*error.args)


def _remember(host: str, error: OSError) -> None:
    now = time.monotonic()
    for name in [name for name, (until, _) in _failed.items() if until <= now]:
        del _failed[name]
    _failed[host] = (now + _MEMORY_SECONDS, error)
