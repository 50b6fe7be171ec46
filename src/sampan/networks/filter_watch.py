"""Others who change the packet filter while the engine runs: Docker or ufw that begin to drop, firewalld that is reloaded, a
script with `flush ruleset`.

nf_tables tells every change to whoever joined its multicast group; `iptables-nft` is told of with it. The x_tables of old tell
nobody: they are looked at from time to time, where somebody uses them (`firewall.xtables`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from sampan.errors import SampanError
from sampan.firewall import xtables
from sampan.netlink.message import attributes, replies

if TYPE_CHECKING:
    from sampan.firewall.rules import PublishedPort
    from sampan.networks.kernel import Kernel

log = logging.getLogger(__name__)

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_GROUP_NFTABLES = 7
_SUBSYSTEM = 10 << 8
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _DELETE_CHAIN, _NEW_RULE, _DELETE_RULE = 0, 2, 3, 5, 6, 8
_OF_RULES = frozenset({_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _DELETE_CHAIN, _NEW_RULE, _DELETE_RULE})
"""NFT_MSG_*: elements of sets, of which our own published ports make many, are left out."""
_TABLE_NAME = 1
"""NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and NFTA_RULE_TABLE alike."""
_FAMILY = struct.Struct("BBH")
_RECEIVE = 1 << 16

_ROUNDS = 3

QUIET_SECONDS = 0.2
"""A reload comes as a burst of changes."""
_REST = 20
"""Times as long as it took: who has a hundred thousand rules and changes them each second must not keep us busy."""
LOOK_SECONDS = 5.0
"""Between looks at x_tables."""


class FilterWatch:
    """Made on the loop. After others' changes it puts back what of ours has to be in their chains, and our table if it has gone."""

    def __init__(self, kernel: Kernel, own: str, published: Callable[[], list[PublishedPort]]) -> None:
        """`own` is our table; `published` tells what belongs into it."""
        self._kernel = kernel
        self._own = own
        self._published = published
        self._lost = False
        self._rests_until = 0.0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        )
        self._socket.setblocking(False)
        self._socket.bind(
            (0, 0)
        )  # without a number of its own it would be taken for the sender, and left out
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)
        self._loop.add_reader(self._socket, self._hear)
        self._seen = xtables.signature()
        self._look = self._loop.call_later(LOOK_SECONDS, self._look_at_xtables)

    async def close(self) -> None:
        """Hear no more; a reaction that has begun is finished."""
        self._look.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        if self._task is not None:
            await self._task

    def _hear(self) -> None:
        try:
            while True:
                self._read(self._socket.recv(_RECEIVE))
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self._expect()  # more than the socket could hold, or nothing that we understand: look anyway

    def _read(self, data: bytes) -> None:
        for message in replies(data):
            if message.kind & 0xFF00 != _SUBSYSTEM or message.kind & 0xFF not in _OF_RULES:
                continue
            name = attributes(message.payload[_FAMILY.size :]).get(_TABLE_NAME, b"").rstrip(b"\0").decode()
            if name == self._own and message.kind & 0xFF == _DELETE_TABLE:
                self._lost = True
            if self._lost or not name.startswith("sampan-"):
                self._expect()

    def _expect(self) -> None:
        if self._timer is None:
            when = max(self._loop.time() + QUIET_SECONDS, self._rests_until)
            self._timer = self._loop.call_at(when, self._react)

    def _look_at_xtables(self) -> None:
        self._look = self._loop.call_later(LOOK_SECONDS, self._look_at_xtables)
        found = xtables.signature()
        if found != self._seen:
            self._seen = found
            self._expect()

    def _react(self) -> None:
        self._timer = None
        if self._task is not None and not self._task.done():
            self._expect()
            return
        lost, self._lost = self._lost, False
        self._task = self._loop.create_task(self._mend(lost))

    async def _mend(self, lost: bool) -> None:
        began = self._loop.time()
        if lost:
            log.warning("somebody has removed this engine's packet filter: it is made anew")
        try:
            await self._kernel.mend_firewall(self._published() if lost else None)
            # Ours in x_tables are a change, too: until nothing changes any more, somebody else's may be hidden in it.
            for _ in range(_ROUNDS):
                before, self._seen = self._seen, xtables.signature()
                if self._seen == before:
                    break
                await self._kernel.mend_firewall(None)
        except SampanError as error:
            log.warning("the packet filter was changed by others, and could not be mended: %s", error)
        now = self._loop.time()
        self._rests_until = now + _REST * (now - began)
