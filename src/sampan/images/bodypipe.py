"""A request's body for code that blocks: through a pipe to a thread of its own.

Not the shared threads, which a few slow clients would use up.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_CAPACITY = 1 << 20
"""Bytes that the kernel holds between the two; with that full, the client waits."""


async def pipe_to_thread(body: AsyncIterator[bytes], function: Callable[[int], T]) -> T:
    """Call `function` with a descriptor from which it reads the body to its end; its result.

    Raises what the function or the body raised. When this returns or raises, the thread has ended: cancelling
    closes the pipe, so the function sees an early end.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _CAPACITY)
    os.set_blocking(writer, False)
    reading = _in_thread(function, reader)
    pumping = asyncio.ensure_future(_pump(body, writer))
    pumping.add_done_callback(lambda _: os.close(writer))  # the thread sees the end, however the pump ended
    try:
        both: set[asyncio.Future[Any]] = {reading, pumping}
        await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
        if pumping.done() and (error := pumping.exception()) and not isinstance(error, BrokenPipeError):
            raise error
        return await reading
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
        await asyncio.gather(reading, return_exceptions=True)


async def _pump(body: AsyncIterator[bytes], pipe: int) -> None:
    """Write the body into the pipe. BrokenPipeError when the thread has given up reading."""
    loop = asyncio.get_running_loop()
    async for chunk in body:
        rest = memoryview(chunk)
        while rest:
            try:
                rest = rest[os.write(pipe, rest) :]
            except BlockingIOError:
                writable = loop.create_future()
                loop.add_writer(pipe, _wake, writable)
                try:
                    await writable
                finally:
                    loop.remove_writer(pipe)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _in_thread(function: Callable[[int], T], reader: int) -> asyncio.Future[T]:
    """Run in a new thread, which closes `reader` at its end."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function(reader))
        except BaseException as error:
            future.set_exception(error)
        finally:
            os.close(reader)

    threading.Thread(target=work, name="request body", daemon=True).start()
    return asyncio.wrap_future(future)
