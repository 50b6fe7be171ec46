"""What a build tells while it runs: BuildKit's Status, as events.

A `Progress` keeps all that was told, so that whoever follows late misses nothing. A `Reporter` speaks for one vertex, to every
build that waits for it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sampan.llb import ops_pb2 as pb
    from sampan.llb.graph import Vertex

STDOUT, STDERR = 1, 2
ADVICE = 0
"""The level of a warning that is none: BuildKit's clients do not get it."""
PACE = 0.05
"""Seconds between two tellings of the same follower, at least, unless the build has ended."""
LOG_LIMIT = 2 << 20
"""Bytes of output that are kept and sent of one vertex, as with BuildKit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexEvent:
    """A vertex as it is now; times in nanoseconds since the epoch, 0 for not yet."""

    digest: str
    name: str
    inputs: tuple[str, ...] = ()
    started: int = 0
    completed: int = 0
    cached: bool = False
    error: str = ""
    group: pb.ProgressGroup | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent:
    """A part of a vertex's work, which has a size: a download, a transfer."""

    vertex: str
    id: str
    name: str = ""
    current: int = 0
    total: int = 0
    at: int
    started: int
    completed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """Output of a vertex's program."""

    vertex: str
    stream: int
    data: bytes
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningEvent:
    """Something that the user should know; `places` are (first line, last line) in the text."""

    vertex: str
    short: str
    level: int = 1
    detail: tuple[str, ...] = ()
    url: str = ""
    text: pb.SourceInfo | None = None
    places: tuple[tuple[int, int], ...] = ()


Event = VertexEvent | StatusEvent | LogEvent | WarningEvent


def described(event: Event) -> dict[str, Any]:
    """An event in plain values, with its kind: `vertex`, `status`, `log` or `warning`."""
    kind = type(event).__name__.removesuffix("Event").lower()
    fields = {each.name: getattr(event, each.name) for each in dataclasses.fields(event)}
    for name in ("group", "text"):
        fields.pop(name, None)
    if isinstance(event, LogEvent):
        fields["data"] = event.data.decode(errors="replace")
    return {"kind": kind, **fields}


def described_failure(error: Exception) -> dict[str, Any] | None:
    """Which step an error is of, and the lines that it was made from; None for an error of no step."""
    excerpt = getattr(error, "excerpt", None)
    if excerpt is None:
        return None
    vertex = getattr(error, "vertex", None)
    name, digest = (vertex.name, vertex.digest) if vertex else ("the Dockerfile", "")
    return {"kind": "failure", "name": name, "vertex": digest, "excerpt": excerpt}


class Progress:
    """All that one build told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._ended = asyncio.Event()
        self._followers: set[asyncio.Event] = set()

    def publish(self, event: Event) -> None:
        """Tell whoever follows, now or later."""
        self.events.append(event)
        self._wake()

    def close(self) -> None:
        """Nothing more will come."""
        self._ended.set()
        self._wake()

    def _wake(self) -> None:
        for follower in self._followers:
            follower.set()

    async def follow(self) -> AsyncIterator[list[Event]]:
        """Everything from the beginning, some at a time, until it is closed.

        What comes within `PACE` of the last is told together: each telling costs more than the events in it.
        """
        at = 0
        woken = asyncio.Event()
        self._followers.add(woken)
        try:
            while True:
                news = self.events[at:]
                if news:
                    at += len(news)
                    yield news
                    await self._pause()
                elif self._ended.is_set():
                    return
                else:
                    woken.clear()
                    await woken.wait()
        finally:
            self._followers.discard(woken)

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._ended.wait(), PACE)
        except TimeoutError:
            pass


class Reporter:
    """Speaks for a vertex."""

    def __init__(self, vertex: Vertex) -> None:
        group = vertex.metadata.progress_group if vertex.metadata.HasField("progress_group") else None
        self._vertex = VertexEvent(
            digest=vertex.digest,
            name=vertex.name,
            inputs=tuple(edge.vertex.digest for edge in vertex.inputs),
            group=group,
        )
        self._listeners: list[Progress] = []
        self._told: list[Event] = []
        self._logged = 0

    def add(self, progress: Progress) -> None:
        """Tell this build too, and first what it has missed."""
        if progress not in self._listeners:
            self._listeners.append(progress)
            for event in self._told or [self._vertex]:
                progress.publish(event)

    def tell(self, event: Event) -> None:
        """To every build that waits."""
        self._told.append(event)
        for progress in self._listeners:
            progress.publish(event)

    @property
    def digest(self) -> str:
        """The vertex's."""
        return self._vertex.digest

    def start(self) -> None:
        """Work on it begins."""
        self._vertex = replace(self._vertex, started=time.time_ns())
        self.tell(self._vertex)

    def complete(self, error: str = "") -> None:
        """Work on it has ended."""
        self._vertex = replace(self._vertex, completed=time.time_ns(), error=error)
        self.tell(self._vertex)

    def cached(self) -> None:
        """There was nothing to do."""
        now = time.time_ns()
        self._vertex = replace(self._vertex, started=now, completed=now, cached=True)
        self.tell(self._vertex)

    def log(self, stream: int, data: bytes) -> None:
        """Output; beyond `LOG_LIMIT` it is dropped, and that is said once."""
        if self._logged >= LOG_LIMIT:
            return
        room = LOG_LIMIT - self._logged
        self._logged += len(data)
        if len(data) > room:
            data = data[:room] + b"\n[output clipped, log limit 2MiB reached]\n"
        self.tell(LogEvent(vertex=self._vertex.digest, stream=stream, data=data, at=time.time_ns()))

    def status(
        self, id: str, current: int, total: int, started: int, *, done: bool = False, name: str = ""
    ) -> None:
        """How far a part of the work is."""
        now = time.time_ns()
        self.tell(
            StatusEvent(
                vertex=self._vertex.digest,
                id=id,
                name=name,
                current=current,
                total=total,
                at=now,
                started=started,
                completed=now if done else 0,
            )
        )

    def warn(self, short: str, *, detail: tuple[str, ...] = (), url: str = "") -> None:
        """Something that the user should know."""
        self.tell(WarningEvent(vertex=self._vertex.digest, short=short, detail=detail, url=url))
