"""Host names to addresses, with a short memory for those that have none.

Where nothing answers the resolver, each lookup takes the ten seconds that it waits and waits again; and one pull asks several
times for the same name: whether it is local, for TLS, for plain HTTP.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Coroutine
from typing import TypeVar

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

T = TypeVar("T")

_PATIENCE_SECONDS = 10.0
"""As Go's resolver. The C library's asks for both kinds of addresses one after the other, each for as long."""
_MEMORY_SECONDS = 10.0
_failed: dict[str, tuple[float, OSError]] = {}
"""Host → until when it is not asked for again, and how it failed. Of the process, as the resolver is."""


class RememberingResolver(ThreadedResolver, AbstractResolver):
    """aiohttp's resolver."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return await _remembered(host, super().resolve(host, port, family))


async def addresses(host: str) -> list[str]:
    """All addresses of a host. Raises OSError, UnicodeError when it has none."""
    asking = asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(entry[4][0]).partition("%")[0] for entry in await _remembered(host, asking)]


async def _remembered(host: str, asking: Coroutine[object, object, T]) -> T:
    until, failure = _failed.get(host, (0.0, OSError()))
    if until > time.monotonic():
        asking.close()
        raise OSError(*failure.args)
    try:
        return await asyncio.wait_for(asking, _PATIENCE_SECONDS)
    except TimeoutError:
        silence = OSError(socket.EAI_AGAIN, "no answer from a name server")
        _remember(host, silence)
        raise silence from None
    except OSError as error:
        _remember(host, error)
        raise


def _remember(host: str, error: OSError) -> None:
    now = time.monotonic()
    for name in [name for name, (until, _) in _failed.items() if until <= now]:
        del _failed[name]
    _failed[host] = (now + _MEMORY_SECONDS, error)
