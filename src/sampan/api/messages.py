"""Answers that are a stream of messages: what a long verb says while it works."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from sampan.api.call import Call
from sampan.api.errors import message_of
from sampan.engineapi.image import ErrorDetail, StreamMessage

Send = Callable[[StreamMessage], None]


async def streamed(call: Call, work: Callable[[Send], Awaitable[None]]) -> web.StreamResponse:
    """Answer with the messages of `work` as they come.

    An error before the first one is an ordinary error answer; a later one becomes the stream's last message, as dockerd does it.
    """
    async with _Messages(work) as messages:
        first = await call.unless_lost(messages.next())
        if first is None:
            await messages.task  # raises what went wrong
        return await messages.relay(call, first)


async def streamed_at_once(call: Call, work: Callable[[Send], Awaitable[None]]) -> web.StreamResponse:
    """The same for a verb whose every error is a message of the stream: the client may still be sending."""
    async with _Messages(work) as messages:
        return await messages.relay(call, await call.unless_lost(messages.next()))


class _Messages:
    """What a task says while it works; the task ends with the block."""

    def __init__(self, work: Callable[[Send], Awaitable[None]]) -> None:
        self._work = work
        self._queue: asyncio.Queue[StreamMessage | None] = asyncio.Queue()

    async def __aenter__(self) -> _Messages:
        self.task = asyncio.ensure_future(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def next(self) -> StreamMessage | None:
        """The next message; None when there are no more."""
        return await self._queue.get()

    async def relay(self, call: Call, message: StreamMessage | None) -> web.StreamResponse:
        """Send this message and all that follow, at last the task's error."""
        async with call.stream() as out:
            while message is not None:
                await out.json(message)
                message = await self.next()
            (outcome,) = await asyncio.gather(self.task, return_exceptions=True)
            if isinstance(outcome, BaseException):
                text = message_of(outcome)
                detail = ErrorDetail(text, getattr(outcome, "code", 0))
                await out.json(StreamMessage(error_detail=detail, error=text))
        return out.response

    async def _run(self) -> None:
        try:
            await self._work(self._queue.put_nowait)
        finally:
            self._queue.put_nowait(None)
