"""Sockets of a container's network that outlive the engine: its shim holds duplicates, and the next engine gets them back.

`ports` keep the host's ports. Without, any program (another engine's container first of all) could take a published port while
no engine runs, and the next engine would lead that program's clients into the container. They go before the container's network
does: whoever starts next may want the same port.

`dns` are those of the resolver, in the container's namespace. What a program asks while no engine runs is answered by the next
one; and the kernel's memory of a client's translated queries (conntrack, up to 3 minutes) still leads to somebody.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sampan.errors import SampanError
from sampan.linux.sockets import MAX_DESCRIPTORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.containers.services import Services
    from sampan.runtime.interface import Shim

log = logging.getLogger(__name__)

KINDS = ("ports", "dns")


async def entrust(services: Services, container_id: str, shim: Shim) -> None:
    """Let the shim of a container that has just started hold what it has. Its failure is logged: the sockets are made anew then."""
    try:
        for kind in KINDS:
            await _keep(shim, kind, services.networks.sockets(container_id, kind))
    except (SampanError, OSError) as error:
        log.warning("%s: its shim does not hold its sockets: %s", container_id, error)


async def replace(services: Services, container_id: str, shim: Shim) -> None:
    """After a change of networks: hold what it has now, and nothing else."""
    for kind in KINDS:
        if not services.networks.sockets(container_id, kind):
            await withdraw(shim, kind)
    await entrust(services, container_id, shim)


async def withdraw(shim: Shim, kind: str, count: int = 1) -> None:
    """Let go of `count` sockets. A shim that is gone holds nothing."""
    try:
        for number in range(_messages(count)):
            await shim.keep(f"{kind}-{number}", [])
    except (SampanError, OSError) as error:
        log.debug("a shim that is gone holds no %s: %s", kind, error)


async def take_back(shim: Shim) -> dict[str, list[int]]:
    """What an earlier engine entrusted, by kind; the descriptors are ours from now on."""
    return {kind: await _kept(shim, kind) for kind in KINDS}


async def _keep(shim: Shim, kind: str, sockets: Sequence[int]) -> None:
    for number in range(_messages(len(sockets))):
        first = number * MAX_DESCRIPTORS
        await shim.keep(f"{kind}-{number}", list(sockets[first : first + MAX_DESCRIPTORS]))


def _messages(count: int) -> int:
    """How many it takes: a port range may be long."""
    return -(-count // MAX_DESCRIPTORS)


async def _kept(shim: Shim, kind: str) -> list[int]:
    found: list[int] = []
    while True:
        part = await shim.kept(f"{kind}-{len(found) // MAX_DESCRIPTORS}")
        found += part
        if len(part) < MAX_DESCRIPTORS:
            return found
