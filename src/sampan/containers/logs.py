"""`docker logs`: a container's log, as frames or, for a terminal, as raw bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from sampan.containers.container import Container
from sampan.containers.log_options import file_format, is_readable, log_path
from sampan.errors import NotSupported
from sampan.logs.present import View
from sampan.logs.reader import LogReader
from sampan.names.times import parse_parameter_time

if TYPE_CHECKING:
    from sampan.containers.services import Services


_READERS = 8
"""Worker processes at once; a client beyond them is served by the engine itself."""


class LogRequest(NamedTuple):
    """Which part of the log, and in which form. Times as clients send them: unix, RFC 3339 or a duration."""

    stdout: bool = True
    stderr: bool = True
    since: str = ""
    until: str = ""
    tail: str = "all"
    timestamps: bool = False
    details: bool = False
    follow: bool = False


class Logs:
    """Reads logs."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._workers = services.workers.apart(_READERS)

    def read(self, container: Container, request: LogRequest) -> AsyncIterator[bytes]:
        """The bytes for the client; with `follow`, until the container stops.

        Raises at once, not on iteration: `InvalidParameter` for times that are none, `NotSupported` when the log driver
        keeps nothing to read.
        """
        record, now = container.record, self._services.clock()
        driver = record.host_config.log_config.type
        if not is_readable(record):
            raise NotSupported("configured logging driver does not support reading")
        view = View(
            framed=not record.config.tty,
            stdout=request.stdout,
            stderr=request.stderr,
            timestamps=request.timestamps,
            details=request.details,
            since_ns=_time("since", request.since, now) or 0,
            until_ns=_time("until", request.until, now),
        )
        path = str(log_path(record, self._services.directory(record.id)))
        reader = LogReader(file_format(driver), path, self._workers)
        return self._read(container, reader, view, tail=_tail(request.tail), follow=request.follow)

    async def _read(
        self, container: Container, reader: LogReader, view: View, *, tail: int | None, follow: bool
    ) -> AsyncIterator[bytes]:
        ended = asyncio.Event()
        watch = container.wait("not-running")
        watch.add_done_callback(lambda _: ended.set())
        follow = follow and container.state.running
        try:
            async for data in reader.read(view, tail=tail, follow=follow, ended=ended):
                yield data
        finally:
            watch.cancel()


def _tail(text: str) -> int | None:
    """None for everything. Like dockerd, whatever is no number means all."""
    if text in ("", "all"):
        return None
    return int(text) if text.isascii() and text.isdigit() else None


def _time(name: str, text: str, now: int) -> int | None:
    """Nanoseconds since the epoch; None when nothing was asked."""
    if text in ("", "0"):
        return None
    return parse_parameter_time(f'"{name}"', text, now)
