"""A build's steps as they are now, made of its events."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

SECOND = 1_000_000_000
_TAIL = 6
_KEPT = 1 << 20
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Part:
    """A part of a step's work that has a size: a download, a transfer."""

    __slots__ = ("completed", "current", "id", "started", "total")

    def __init__(self, id: str) -> None:
        self.id = id
        self.current = self.total = self.started = self.completed = 0


class Step:
    """One step."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.name = ""
        self.started = self.completed = 0
        self.cached = False
        self.error = ""
        self.parts: dict[str, Part] = {}
        self.tail: deque[str] = deque(maxlen=_TAIL)
        """Its last lines of output."""
        self.output: list[str] = []
        self._rest = ""
        self._kept = 0

    @property
    def runs(self) -> bool:
        """Begun, and not at its end."""
        return bool(self.started) and not self.completed

    def seconds(self, now: int) -> float:
        """How long it has taken so far; `now` in nanoseconds since the epoch."""
        return max(0, (self.completed or now) - self.started) / SECOND

    def say(self, data: str) -> None:
        """Take output."""
        if self._kept < _KEPT:
            self.output.append(data)
            self._kept += len(data)
        *lines, self._rest = (self._rest + data).split("\n")
        self.tail.extend(shown(line) for line in lines[-_TAIL:])

    def last_lines(self, count: int) -> list[str]:
        """The end of its output, with a line that is not at its end yet."""
        lines = [*self.tail, *([shown(self._rest)] if self._rest.strip() else [])]
        return [line for line in lines if line][-count:] if count else []


class Steps:
    """All of one build, in the order in which they begin."""

    def __init__(self) -> None:
        import threading

        self.lock = threading.Lock()
        """Held while events are taken; whoever reads from another thread holds it too."""
        self._known: dict[str, Step] = {}
        self.begun: list[Step] = []
        self.warnings: list[str] = []
        self.advice: list[str] = []
        """What could be done better, though nothing is wrong."""

    @property
    def total(self) -> int:
        """How many there are as far as is known."""
        return len(self._known)

    @property
    def done(self) -> int:
        return sum(1 for step in self.begun if step.completed)

    def apply(self, events: Iterable[dict[str, Any]]) -> None:
        """Take what has happened."""
        with self.lock:
            for event in events:
                self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        match event["kind"]:
            case "vertex":
                self._vertex(event)
            case "log":
                self._step(event["vertex"]).say(event["data"])
            case "status":
                self._status(event)
            case "warning":
                (self.warnings if event["level"] else self.advice).append(event["short"])

    def find(self, digest: str) -> Step | None:
        """None for a step that nothing was told of."""
        return self._known.get(digest)

    def _step(self, digest: str) -> Step:
        return self._known.setdefault(digest, Step(digest))

    def _vertex(self, event: dict[str, Any]) -> None:
        step = self._step(event["digest"])
        if event["started"] and not step.started:
            self.begun.append(step)
        step.name, step.started, step.completed = event["name"], event["started"], event["completed"]
        step.cached, step.error = event["cached"], event["error"]

    def _status(self, event: dict[str, Any]) -> None:
        parts = self._step(event["vertex"]).parts
        part = parts.setdefault(event["id"], Part(event["id"]))
        part.current, part.total = event["current"], event["total"]
        part.started, part.completed = event["started"], event["completed"]


def shown(line: str) -> str:
    """A line of a program's output as it would look on a terminal at last: without colours, bells and what was written over."""
    line = line.rstrip("\r").rpartition("\r")[2]
    return _CONTROL.sub("", _ESCAPES.sub("", line.expandtabs(4)))
