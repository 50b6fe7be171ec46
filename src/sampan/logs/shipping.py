"""From a container's local log to its remote one.

The shim writes the local file whatever happens to the engine or to the peer; a `Shipper` follows that file and keeps its position
beside it. A killed engine's successor goes on there: a line is sent again rather than lost. A peer that is away is tried
again until it is back; what the local file's rotation throws away meanwhile is lost to it (`cache-max-size`,
`cache-max-file`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from sampan.logs.files import Position
from sampan.logs.reader import LogReader
from sampan.logs.remote.interface import Line, PartOf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sampan.logs.entries import Run
    from sampan.logs.remote.interface import Sink

log = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
_GRACE = 10.0
"""Seconds after the container's end for a peer that does not take the rest."""


class Shipper:
    """Sends one container's lines. `connect`, then `begin`; `finish` after the container's end."""

    def __init__(self, name: str, driver: str, path: str, position: Path, sink: Sink) -> None:
        self._name = name
        self._reader = LogReader(driver, path)
        self._position_path = position
        self._sink = sink
        # A thread of its own: a peer that does not read must not hold those that the engine shares.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._ended = asyncio.Event()
        self._connected = False
        self._parts = Parts()
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Open the sink. Raises OSError with a message for the user."""
        await self._call(self._sink.connect)
        self._connected = True

    def begin(self) -> None:
        """Send from the kept position on, in the background."""
        self._task = asyncio.create_task(self._ship(), name=f"log-{self._name}")

    async def finish(self) -> None:
        """The container has ended and its log is complete: send the rest, for a bounded time."""
        self._ended.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_GRACE)
        await self.cancel()

    async def cancel(self) -> None:
        """Stop where it is; what is left waits for the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.submit(self._sink.close)
        self._thread.shutdown(wait=False)

    async def _ship(self) -> None:
        try:
            async for runs, position in self._reader.entries_since(self._kept(), self._ended):
                lines = self._parts.lines(runs)
                if lines:
                    await self._send(lines)
                self._keep(position)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("%s: sending the log to its driver stopped", self._name)

    async def _send(self, lines: Sequence[Line]) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                if not self._connected:
                    await self.connect()
                await self._call(lambda: self._sink.send(lines))
                return
            except OSError as error:
                if self._connected or delay == _FIRST_DELAY:
                    log.warning("%s: log driver: %s", self._name, error)
                self._connected = False
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    async def _call(self, function: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, function)

    # --- the position

    def _kept(self) -> Position | None:
        try:
            return Position(*json.loads(self._position_path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _keep(self, position: Position) -> None:
        # Without fsync: after a power failure lines are sent again.
        part = self._position_path.with_suffix(".part")
        try:
            part.write_bytes(json.dumps(position).encode())
            os.rename(part, self._position_path)
        except OSError as error:  # the container's directory is gone, or the disk is full
            log.debug("%s: keeping the log's position: %s", self._name, error)


class Parts:
    """Runs of the local log as lines; the pieces of a long line get their common id and their numbers."""

    def __init__(self) -> None:
        self._open: dict[str, PartOf] = {}
        """stream → the last piece that was sent of an unfinished line."""

    def lines(self, runs: Sequence[Run]) -> list[Line]:
        found = []
        for run in runs:
            for text in run.lines:
                whole = text.endswith(b"\n")
                before = self._open.pop(run.stream, None)
                part = None
                if before is not None or not whole:
                    part = PartOf(
                        before.id if before else secrets.token_hex(32),
                        before.ordinal + 1 if before else 1,
                        whole,
                    )
                    if not whole:
                        self._open[run.stream] = part
                found.append(Line(run.stream, run.time_ns, text[:-1] if whole else text, part))
        return found
