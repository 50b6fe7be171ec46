"""Our ends of veth pairs whose containers have ended.

Usually a pair dies with the container's namespace within 100 ms and costs nobody anything. But a namespace lives as long as
any socket made in it: a TCP connection that the container closed and the peer never acknowledged (FIN_WAIT_1, LAST_ACK: tcp(7),
tcp_orphan_retries) keeps it, and with it the pair, for minutes. So names are remembered here, and what is still there a moment
later is deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sampan.netlink import links
from sampan.networks.sandbox import delete_links

if TYPE_CHECKING:
    from sampan.netlink.socket import NetlinkSocket
    from sampan.networks.kernel import Kernel

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""How long a namespace may take to go by itself: a deletion waits 27 ms under the lock that every start needs."""

_CLOSING_SECONDS = 0.25
_CLOSING_STEP = 0.025


class DepartedLinks:
    """Hand names over with `add`; `close` when the engine ends."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._names: dict[str, float] = {}
        """When each was handed over, oldest first."""
        self._sweeper: asyncio.Task[None] | None = None

    def add(self, names: Sequence[str]) -> None:
        """These links belong to nobody any more; those that are gone already, or never were, do no harm."""
        now = asyncio.get_running_loop().time()
        self._names.update(dict.fromkeys(names, now))
        if self._names and (self._sweeper is None or self._sweeper.done()):
            self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """Give the last ones a moment to go by themselves, then delete what is left."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        for _ in range(round(_CLOSING_SECONDS / _CLOSING_STEP)):
            self._names = dict.fromkeys(await self._kernel.run(self._present), 0.0)
            if not self._names:
                return
            await asyncio.sleep(_CLOSING_STEP)
        await self._delete(list(self._names))

    def _present(self, host: NetlinkSocket) -> list[str]:
        return [name for name in self._names if links.find(host, name) is not None]

    async def _sweep(self) -> None:
        """Until nothing is remembered: wait for the oldest one's time, then delete all whose time has come."""
        loop = asyncio.get_running_loop()
        while self._names:
            await asyncio.sleep(max(0.0, next(iter(self._names.values())) + PATIENCE_SECONDS - loop.time()))
            due = [name for name, since in self._names.items() if since + PATIENCE_SECONDS <= loop.time()]
            await self._delete(due)
            for name in due:
                del self._names[name]

    async def _delete(self, names: Sequence[str]) -> None:
        try:
            await self._kernel.run(lambda host: delete_links(host, names))
        except Exception as error:
            log.warning("links of ended containers: %s", error)  # the next start takes them away
