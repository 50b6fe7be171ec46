"""A copy of the zygote that stands still: what long-lived children are forked from.

A page that two processes share after a fork is copied for the one that writes to it, and the other is left its only
owner. The zygote writes to hundreds between two forks (requests, replies, exits), so each of its children would keep
the zygote's former pages, 0.6 MB, for itself alone. The seed does nothing but clone: a byte on its pipe is one child,
which is the *zygote's* child (CLONE_PARENT) and receives by itself what it is to become.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from typing import TYPE_CHECKING, Any

from sampan.linux import pages, process, sockets

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    Become = Callable[[dict[str, Any], list[int]], NoReturn]
    """What a child does with a request's message and descriptors."""

_PATIENCE_MS = 10_000
"""How long a child may take from the clone to its first answer."""


class Seed:
    """The zygote's side. Its owner reaps the children, and the seed itself (`pid`)."""

    def __init__(self, become: Become) -> None:
        order, self._order = os.pipe2(os.O_CLOEXEC)
        requests, self._requests = sockets.pair()
        zygote = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _stand_still(order, requests, become, zygote)
        os.close(order)
        requests.close()

    def fork(self, message: dict[str, Any], descriptors: list[int]) -> tuple[int, int]:
        """(pid, pidfd) of a new child of ours. Raises OSError: the seed is of no use any more."""
        sockets.send(self._requests, message, descriptors)
        os.write(self._order, b"f")
        poll = select.poll()
        poll.register(self._requests, select.POLLIN)
        if not poll.poll(_PATIENCE_MS):
            raise TimeoutError(f"no child within {_PATIENCE_MS // 1000} s")
        answer, (pidfd,) = sockets.receive(self._requests)
        return answer["pid"], pidfd

    def close(self) -> None:
        """End it; its children stay."""
        os.close(self._order)
        self._requests.close()
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def _stand_still(order: int, requests: socket.socket, become: Become, zygote: int) -> NoReturn:
    try:
        process.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() == zygote:
            process.set_name("sampan-seed")
            process.close_all_except([order, requests.fileno(), pages.file()])
            clone = process.sibling_clone()
            # Nothing in this loop may write more pages than the children write anyway.
            while os.read(order, 1):
                if clone() == 0:
                    message, descriptors = sockets.receive(requests)
                    pidfd = os.pidfd_open(os.getpid())
                    sockets.send(requests, {"pid": os.getpid()}, [pidfd])
                    become(message, descriptors)
    finally:
        os._exit(1)
