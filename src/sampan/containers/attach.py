"""A client's conversation with a process: bytes both ways, detach keys, and an end that neither side can block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Protocol

from sampan.containers.container import Container, WaitingAttach
from sampan.errors import Conflict

if TYPE_CHECKING:
    from sampan.runtime.interface import AttachStream

DEFAULT_DETACH_KEYS = bytes((16, 17))
"""ctrl-p, ctrl-q."""

_FRAME_HEAD = 8
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


class ClientStream(Protocol):
    """The client's side, as the API's hijacked connection offers it."""

    @property
    def lost(self) -> bool:
        """True when the client is gone altogether."""
        ...

    async def read(self) -> bytes:
        """Input; b"" at its end."""
        ...

    async def write(self, data: bytes) -> None:
        """Output. Raises ConnectionError when the client is gone."""
        ...

    def write_eof(self) -> None: ...


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` or `a,b` as bytes. Raises `ValueError` for anything else."""
    if not text:
        return DEFAULT_DETACH_KEYS
    keys = bytearray()
    for key in text.split(","):
        if len(key) == 1 and key.isascii():
            keys += key.encode()
            continue
        symbol = key.removeprefix("ctrl-").lower() if key.lower().startswith("ctrl-") else ""
        if len(symbol) == 1 and symbol.isascii() and symbol.isalpha():
            keys.append(ord(symbol) - ord("a") + 1)
        elif symbol in _CONTROL:
            keys.append(_CONTROL[symbol])
        else:
            raise ValueError(text)
    return bytes(keys)


class DetachFilter:
    """Looks for the key sequence in a stream of input that may be cut anywhere."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""
        self.detached = False

    def feed(self, data: bytes) -> bytes:
        """What may be passed on; a beginning of the sequence is held back until it is decided. Sets `detached`."""
        if not self._keys:
            return data
        passed = bytearray()
        for number in data:
            self._held += bytes((number,))
            while self._held and not self._keys.startswith(self._held):
                passed.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._keys:
                self.detached = True
                self._held = b""
                break
        return bytes(passed)


async def frames(stream: AttachStream) -> AsyncGenerator[tuple[int, bytes], None]:
    """What comes through Docker's attach protocol: the number of a stream (1 output, 2 errors), and a piece of it."""
    held = b""
    while data := await stream.read():
        held += data
        while len(held) >= _FRAME_HEAD:
            end = _FRAME_HEAD + int.from_bytes(held[4:_FRAME_HEAD])
            if len(held) < end:
                break
            yield held[0], held[_FRAME_HEAD:end]
            held = held[end:]


async def converse(
    client: ClientStream, stream: AttachStream, *, stdin: bool, detach_keys: bytes | None
) -> bool:
    """Carry bytes until the process's output ends, the client leaves, or it types the detach keys (then True).

    `detach_keys` None looks for none. The stream is closed at the end.
    """
    keys = DetachFilter(detach_keys) if detach_keys else None
    output = asyncio.create_task(_copy_output(client, stream))
    input = asyncio.create_task(_copy_input(client, stream, keys, stdin=stdin))
    try:
        await asyncio.wait((output, input), return_when=asyncio.FIRST_COMPLETED)
        if not output.done() and not input.result():
            await output  # the end of input is not the end of the conversation
        return keys is not None and keys.detached
    finally:
        for task in (output, input):
            task.cancel()
        await asyncio.gather(output, input, return_exceptions=True)
        await stream.close()


async def _copy_output(client: ClientStream, stream: AttachStream) -> None:
    try:
        while data := await stream.read():
            await client.write(data)
    except ConnectionError:
        return


async def _copy_input(
    client: ClientStream, stream: AttachStream, keys: DetachFilter | None, *, stdin: bool
) -> bool:
    """True when the conversation is over: detached, or the client is gone."""
    try:
        while data := await client.read():
            if not stdin:
                continue
            if keys is not None:
                data = keys.feed(data)
            if data:
                await stream.write(data)
            if keys is not None and keys.detached:
                return True
        if stdin:
            await stream.close_stdin()
    except ConnectionError:
        stdin = False  # the process has closed its input; the output may go on
    return client.lost


async def connect(container: Container, *, stdin: bool, stdout: bool, stderr: bool) -> AttachStream:
    """A stream of the container's present run, or of its next one when it does not run.

    Raises `Conflict` for a paused or restarting container. Cancelled when the container is removed before it starts.
    """
    stdin = stdin and container.record.config.open_stdin
    async with container.lock:
        check_can_attach(container, container.id)
        if container.shim is not None and container.state.alive:
            return await container.shim.attach(stdin=stdin, stdout=stdout, stderr=stderr)
        waiting = WaitingAttach(stdin=stdin, stdout=stdout, stderr=stderr)
        container.waiting_attaches.append(waiting)
    try:
        return await waiting.stream
    finally:
        if waiting in container.waiting_attaches:
            container.waiting_attaches.remove(waiting)


def check_can_attach(container: Container, called: str) -> None:
    """Raises `Conflict` in dockerd's words; `called` is what the client calls the container."""
    if container.state.status == "paused":
        raise Conflict(f"container {called} is paused, unpause the container before attach")
    if container.state.status == "restarting":
        raise Conflict(f"container {called} is restarting, wait until the container is running")
