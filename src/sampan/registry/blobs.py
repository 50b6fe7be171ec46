"""Fetching blobs: from a byte on, wherever the registry redirects to, never more than was announced."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from yarl import URL

from sampan.errors import NotFound
from sampan.oci.image import Descriptor
from sampan.registry.authorization import Scopes
from sampan.registry.failures import BrokenAnswer, WrongContent, failure_of
from sampan.registry.session import Session
from sampan.registry.transport import Answer, Transport, shown

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class Blob:
    """A blob being received; a context that ends the transfer."""

    def __init__(self, answer: Answer, offset: int, size: int, stack: AsyncExitStack) -> None:
        self.offset = offset
        """Where in the blob the first byte to come belongs."""
        self._size = size
        self._answer = answer
        self._stack = stack

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes from `offset` to the end. Raises `ConnectionFailed` when it breaks off, `WrongContent` for too many."""
        position = self.offset
        async for chunk in self._answer.chunks():
            position += len(chunk)
            if position > self._size:
                raise WrongContent(
                    f"{shown(self._answer.url)}: more than the {self._size} bytes that the manifest says"
                )
            yield chunk

    async def after(self, offset: int) -> AsyncIterator[bytes]:
        """The bytes from `offset` on; what a server without ranges sends before that is dropped."""
        known = offset - self.offset
        async for chunk in self.chunks():
            if known >= len(chunk):
                known -= len(chunk)
                continue
            yield chunk[known:]
            known = 0

    async def read(self, limit: int) -> bytes:
        """All of a small blob."""
        return await self._answer.read(limit)


async def open_blob(
    session: Session, domain: str, path: str, descriptor: Descriptor, offset: int, scopes: Scopes
) -> Blob:
    """Ask an endpoint of a registry for a blob. Raises `NotFound`, `WrongContent` for a length that is not the manifest's."""
    url = session.url(f"/v2/{path}/blobs/{descriptor.digest}")
    if session.endpoint.mirror:
        url = url.update_query(ns=domain)
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    stack = AsyncExitStack()
    try:
        answer = await stack.enter_async_context(
            session.request("GET", url, scopes, headers=headers, accept=(200, 206, 416) if offset else (200,))
        )
        if answer.status == 416:  # no such range there: begin again
            await stack.aclose()
            return await open_blob(session, domain, path, descriptor, 0, scopes)
        return Blob(answer, _checked_start(answer, descriptor, offset), descriptor.size, stack)
    except BaseException:
        await stack.aclose()
        raise


async def open_foreign(transport: Transport, descriptor: Descriptor, offset: int) -> Blob:
    """A layer that its registry must not distribute, from the addresses in its descriptor; nobody gets credentials."""
    problem: Exception = NotFound(f"{descriptor.digest}: not found")
    for text in descriptor.urls:
        try:
            url = URL(text)
        except ValueError:
            continue
        if url.scheme not in ("http", "https") or not url.host or url.user is not None:
            continue
        answer = await transport.follow("GET", url, {"Range": f"bytes={offset}-"} if offset else {})
        if answer.status in (200, 206):
            stack = AsyncExitStack()
            await stack.enter_async_context(answer)
            return Blob(answer, _checked_start(answer, descriptor, offset), descriptor.size, stack)
        problem = failure_of("GET", shown(url), answer.status, answer.reason, answer.headers, b"")
        answer.close()
    raise problem


def _checked_start(answer: Answer, descriptor: Descriptor, offset: int) -> int:
    """Where the answer's bytes belong; lengths that contradict the manifest are refused before a byte is taken."""
    start = 0
    if answer.status == 206:
        given = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if given is None or int(given[1]) != offset:
            raise BrokenAnswer(
                f"{shown(answer.url)}: asked for bytes from {offset}, got {answer.headers.get('Content-Range', '')!r}"
            )
        start = offset
    length = answer.headers.get("Content-Length", "")
    if length.isdigit() and len(length) < 19 and start + int(length) != descriptor.size:
        raise WrongContent(
            f"{shown(answer.url)}: the server announces {start + int(length)} bytes, the manifest says {descriptor.size}"
        )
    return start
