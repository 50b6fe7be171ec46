"""An agent that answers the notifications of seccomp filters (SCMP_ACT_NOTIFY): every call it hears of fails with one error."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import select
import socket
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV: struct seccomp_notif has 80 bytes
_SEND = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND: struct seccomp_notif_resp has 24

ANSWER = errno.ENOMEDIUM
"""What no real mkdir would say."""
SAID = "No medium found"


class Agent:
    """Listens at `path` while the block lasts; `states` are the documents that came with the descriptors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.states: list[dict[str, Any]] = []
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ends = os.pipe()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._server.bind(str(self.path))
        self._server.listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._ends[1])
        self._thread.join()
        os.close(self._ends[0])
        self._server.close()

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._ends[0])
        poll.register(self._server, select.POLLIN)
        listeners = set()
        while True:
            for descriptor, event in poll.poll():
                if descriptor == self._ends[0]:
                    for listener in listeners:
                        os.close(listener)
                    return
                if descriptor == self._server.fileno():
                    listeners.add(self._greet(poll))
                elif event & select.POLLIN:
                    _answer(descriptor)
                else:  # the last process under the filter has ended
                    poll.unregister(descriptor)
                    listeners.discard(descriptor)
                    os.close(descriptor)

    def _greet(self, poll: select.poll) -> int:
        connection = self._server.accept()[0]
        with connection:
            text, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(64))
        self.states.append(json.loads(text))
        (listener,) = array.array("i", ancillary[0][2])
        poll.register(listener, select.POLLIN)
        return int(listener)


def _answer(listener: int) -> None:
    notification = bytearray(80)
    try:
        fcntl.ioctl(listener, _RECEIVE, notification)
        (number,) = struct.unpack_from("<Q", notification)
        fcntl.ioctl(listener, _SEND, struct.pack("<QqiI", number, 0, -ANSWER, 0))
    except FileNotFoundError:
        pass  # who asked has been killed meanwhile
