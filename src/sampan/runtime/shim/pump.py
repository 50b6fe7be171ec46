"""Moves bytes: a process's output to the log and to every attached client, clients' input to the process.

Lossless, by back-pressure: as long as one attached client has not taken what it was sent, the streams it listens to
are not read, the pipe fills, and the process waits. A client that goes away stops counting. Without clients
the process is never held up: its output goes to the log, or nowhere.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import TYPE_CHECKING

from sampan.runtime.shim.loop import GONE, READ, WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.logs.writer import LogWriter
    from sampan.runtime.shim.loop import Loop
    from sampan.runtime.shim.streams import Streams

CHUNK = 64 * 1024
"""One read. Larger ones leave malloc's arena and cost page faults instead."""

_STREAM_NUMBERS = {"stdout": 1, "stderr": 2}


class Client:
    """An attached client: a stream socket whose other end the engine holds."""

    def __init__(self, pump: Pump, loop: Loop, descriptor: int, *, stdin: bool, streams: set[str]) -> None:
        self._pump = pump
        self._loop = loop
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._pending: deque[bytes] = deque()
        self.stdin = stdin
        """Whether more input may come from it."""
        self.streams = streams
        self._closing = False
        self.update()

    @property
    def blocked(self) -> bool:
        """It has not taken everything it was sent."""
        return bool(self._pending)

    def send(self, stream: str, data: bytes, *, framed: bool) -> None:
        """Send now what the socket takes, and keep the rest."""
        parts = [data]
        if framed:
            # Docker's frame: stream, three zero bytes, length.
            parts = [bytes((_STREAM_NUMBERS[stream], 0, 0, 0)) + len(data).to_bytes(4, "big"), data]
        if self._pending:
            self._pending.extend(parts)
            return
        sent = self._try_send(parts)
        for part in parts:
            if sent < len(part):
                self._pending.append(part[sent:])
                sent = 0
            else:
                sent -= len(part)
        if self._pending:
            self.update()

    def finish(self) -> None:
        """No more output comes: close once everything is sent."""
        self._closing = True
        if not self._pending:
            self.close()

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._pending.clear()
            self._pump.client_gone(self)

    def update(self) -> None:
        """Watch what matters now. Hang-up is always reported."""
        if self._socket.fileno() >= 0:
            reading = READ if self.stdin and self._pump.takes_input else 0
            self._loop.watch(self._socket.fileno(), reading | (WRITE if self._pending else 0), self._ready)

    def _try_send(self, parts: list[bytes]) -> int:
        try:
            return self._socket.sendmsg(parts, [], socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:
            self._loop.forget(self._socket.fileno())
            # Not `close`: the pump is iterating over its clients. The hang-up is dealt with in the next turn.
            self._loop.after(0, self.close)
            return sum(map(len, parts))

    def _ready(self, mask: int) -> None:
        if mask & READ:
            self._receive()
        if mask & WRITE and self._socket.fileno() >= 0:
            self._drain()
        if mask & GONE and not mask & READ:
            self._pump.input_ended(self)
            self.close()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._pump.input(data)
        else:
            self.stdin = False
            self.update()
            self._pump.input_ended(self)

    def _drain(self) -> None:
        while self._pending:
            part = self._pending.popleft()
            sent = self._try_send([part])
            if sent < len(part):
                self._pending.appendleft(part[sent:])
                return
        if self._closing:
            self.close()
            return
        self.update()
        self._pump.resume()


class Pump:
    """One process's streams, its log and its clients."""

    def __init__(self, loop: Loop, streams: Streams, log: LogWriter | None) -> None:
        self._loop = loop
        self._streams = streams
        self._log = log
        self._clients: list[Client] = []
        self._input: deque[bytes] = deque()
        self._input_ending = False
        self._paused = False
        self.finished = False
        """All output has been read to its end."""
        self.on_finished: Callable[[], None] | None = None
        self.tap: Callable[[bytes], None] | None = None
        """Sees all output (health probes)."""

    def begin(self) -> None:
        """Start moving. The streams' ends must be in place."""
        self._watch_outputs()
        for client in self._clients:
            client.update()
        self._finish_if_done()

    def attach(self, descriptor: int, *, stdin: bool, stdout: bool, stderr: bool) -> None:
        """Add a client; its socket becomes ours. Without output left it is closed at once."""
        streams = {name for name, wanted in (("stdout", stdout), ("stderr", stderr)) if wanted}
        client = Client(self, self._loop, descriptor, stdin=stdin, streams=streams)
        self._clients.append(client)
        if self.finished:
            client.finish()

    @property
    def takes_input(self) -> bool:
        """Whether clients' input is wanted now: the process has a stdin, and took all that came so far."""
        return self._streams.input is not None and not self._input and not self._input_ending

    def client_gone(self, client: Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
        self.resume()

    # --- output

    def resume(self) -> None:
        """A client caught up or left: read on unless another one holds us."""
        if self._paused and not any(client.blocked for client in self._clients):
            self._paused = False
            self._watch_outputs()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            for descriptor in self._streams.outputs.values():
                self._loop.forget(descriptor)

    def _watch_outputs(self) -> None:
        for stream, descriptor in self._streams.outputs.items():
            self._loop.watch(descriptor, READ, lambda mask, stream=stream: self._output(stream))  # type: ignore[misc]

    def _output(self, stream: str) -> None:
        try:
            data = os.read(self._streams.outputs[stream], CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process has closed the terminal
            data = b""
        if not data:
            self._output_ended(stream)
            return
        if self._log is not None:
            try:
                self._log.write(stream, data)
            except OSError:
                pass  # a full disk costs log lines, never the container
        if self.tap is not None:
            self.tap(data)
        framed = not self._streams.tty
        for client in self._clients:
            if stream in client.streams:
                client.send(stream, data, framed=framed)
                if client.blocked:
                    self._pause()

    def _output_ended(self, stream: str) -> None:
        self._loop.forget(self._streams.outputs[stream])
        self._streams.close_output(stream)
        if self._log is not None:
            try:
                self._log.finish(stream)
            except OSError:
                pass
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._streams.outputs or self.finished:
            return
        self.finished = True
        self._forget_input()
        for client in list(self._clients):
            client.finish()
        if self.on_finished is not None:
            self.on_finished()

    def abandon(self) -> None:
        """Stop here: somebody else may still hold the other ends, but we no longer care."""
        for stream in list(self._streams.outputs):
            self._loop.forget(self._streams.outputs[stream])
            self._streams.close_output(stream)
        self._finish_if_done()

    def stop_logging(self) -> None:
        """What comes from now on goes to clients only."""
        self._log = None

    def close_clients(self) -> None:
        """Drop all clients, also those that have not taken everything."""
        for client in list(self._clients):
            client.close()

    # --- input

    def input(self, data: bytes) -> None:
        """Pass a client's input on; what the process does not take yet waits, and no more is read meanwhile."""
        if self._streams.input is None:
            return
        self._input.append(data)
        self._write_input(0)

    def input_ended(self, client: Client) -> None:
        """The client sends no more: end of file for the process when it wants that, else the client is detached.

        As dockerd: with `stdin_once` and no terminal the process sees the end; otherwise the client's output
        ends, and the process's stdin stays open for the next one.
        """
        if self._streams.input is None or client not in self._clients:
            return
        if self._streams.once and not self._streams.tty:
            self._input_ending = True
            self._write_input(0)
        elif client.streams:
            client.finish()

    def _write_input(self, mask: int) -> None:
        descriptor = self._streams.input
        if descriptor is None:
            return
        while self._input:
            data = self._input.popleft()
            try:
                written = os.write(descriptor, data)
            except BlockingIOError:
                written = 0
            except OSError:  # EPIPE: it reads no more, what comes is dropped
                self._forget_input()
                return
            if written < len(data):
                self._input.appendleft(data[written:])
                self._loop.watch(descriptor, WRITE, self._write_input)
                self._update_clients()
                return
        self._loop.forget(descriptor)
        if self._input_ending:
            self._forget_input()
        self._update_clients()

    def _forget_input(self) -> None:
        self._input.clear()
        if self._streams.input is not None:
            self._loop.forget(self._streams.input)
            self._streams.close_input()
        self._update_clients()

    def _update_clients(self) -> None:
        for client in self._clients:
            client.update()
