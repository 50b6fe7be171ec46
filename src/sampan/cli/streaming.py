"""Between the user's terminal and a process: input, output, window size, signals, detaching.

The main thread copies output, so that signals interrupt it; a thread copies input. Signals are passed on over a
connection of their own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from sampan.cli import terminal
from sampan.client.streams import STDERR
from sampan.errors import SampanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from sampan.client.streams import RawStream

BLOCK = 1 << 18
"""Bytes that are read at once from what is to be sent."""
_NOT_PROXIED = frozenset(
    ("SIGCHLD", "SIGPIPE", "SIGURG", "SIGKILL", "SIGSTOP", "SIGWINCH", "SIGTSTP", "SIGTTIN", "SIGTTOU")
)


def blocks(file: IO[bytes]) -> Iterator[bytes]:
    """A file's content in pieces, to send."""
    while block := file.read(BLOCK):
        yield block


def write_all(descriptor: int, data: bytes) -> None:
    """Write to a descriptor, past Python's buffers. Raises BrokenPipeError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Conversation:
    """One attached process, from here: `run` returns when its output ends, or True when the user detached."""

    def __init__(self, stream: RawStream, *, tty: bool, stdin: bool, detach_keys: str) -> None:
        self._stream = stream
        self._tty = tty
        self._stdin = stdin
        self._keys = terminal.parse_keys(detach_keys)
        self.detached = False

    def run(self) -> bool:
        """Copy until the process's streams end."""
        sys.stdout.flush()
        with terminal.raw_mode() if self._tty and self._stdin else contextlib.nullcontext():
            if self._stdin:
                import threading

                threading.Thread(target=self._copy_input, daemon=True).start()
            try:
                for source, payload in self._stream.frames(tty=self._tty):
                    write_all(2 if source == STDERR else 1, payload)
            except OSError:
                if not self.detached:
                    raise
        return self.detached

    def _copy_input(self) -> None:
        watch = terminal.DetachWatch(self._keys if self._tty else b"")
        try:
            while data := os.read(0, 65536):
                data, detached = watch.feed(data)
                if data:
                    self._stream.write(data)
                if detached:
                    self.detached = True
                    self._stream.close()  # wakes the thread that reads
                    return
            self._stream.close_write()
        except OSError:
            return  # the process is gone, or stdin is


@contextlib.contextmanager
def window_size(resize: Callable[[int, int], None]) -> Iterator[None]:
    """Report the terminal's size now and at each change."""
    if not hasattr(signal, "SIGWINCH"):
        yield
        return

    def report(*_: Any) -> None:
        try:
            resize(*terminal.size())
        except SampanError:
            pass  # the process has just ended

    before = signal.signal(signal.SIGWINCH, report)
    report()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


@contextlib.contextmanager
def proxied_signals(kill: Callable[[str], None]) -> Iterator[None]:
    """Pass the signals that reach this program on to the container."""
    before = {}

    def forward(number: int, _: Any) -> None:
        try:
            kill(signal.Signals(number).name.removeprefix("SIG"))
        except SampanError:
            pass  # it has just ended

    for found in signal.valid_signals():
        if (
            not isinstance(found, signal.Signals)
            or found.name in _NOT_PROXIED
            or found.name.startswith("SIGRT")
        ):
            continue
        before[found] = signal.signal(found, forward)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
