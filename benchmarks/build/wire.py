"""How many bytes go over the wire: a socket that passes everything on to an engine's and counts."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

_PIECE = 1 << 18


class Relay:
    """Counts in both directions, over all connections."""

    def __init__(self, target: str) -> None:
        """`target` is the path of the engine's socket."""
        self._target = target
        self._lock = threading.Lock()
        self.sent = 0
        """By clients."""
        self.answered = 0

    def _count(self, bytes: int, *, sent: bool) -> None:
        with self._lock:
            if sent:
                self.sent += bytes
            else:
                self.answered += bytes

    def serve(self, listener: socket.socket) -> None:
        """Accept until the listener is shut down."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # the end
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._target)
            for source, sink, sent in ((client, engine, True), (engine, client, False)):
                threading.Thread(target=self._carry, args=(source, sink, sent), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, sent: bool) -> None:
        try:
            while piece := source.recv(_PIECE):
                self._count(len(piece), sent=sent)
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One end is gone: the other one is told, which ends the thread of the other direction.
            for each in (source, sink):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def counted(target: str, path: Path) -> Iterator[Relay]:
    """A relay at `path` to the engine's socket while the block lasts."""
    relay = Relay(target)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        thread = threading.Thread(target=relay.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield relay
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            path.unlink()
