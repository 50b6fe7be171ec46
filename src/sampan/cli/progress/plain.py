"""What a build tells, as lines: a step when it begins, its output, and how long it took."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


_SECOND = 1_000_000_000


class Lines:
    """Numbers steps in the order in which they begin, and prints what is told of them."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._numbers: dict[str, int] = {}
        self._named: set[str] = set()
        self._ended: set[str] = set()
        self._last = ""
        self._midline: dict[str, str] = {}
        self._started: dict[str, int] = {}

    def show(self, events: Sequence[dict[str, Any]]) -> None:
        """Some events."""
        for event in events:
            self.tell(event)

    def finish(self, *, failed: bool) -> None:
        """The build is over; what is to be said then stands in lines already."""

    def tell(self, event: dict[str, Any]) -> None:
        """One event (`sampan.solver.progress.described`)."""
        match event["kind"]:
            case "vertex":
                self._vertex(event)
            case "log":
                self._log(event)
            case "status":
                self._status(event)

    def _vertex(self, event: dict[str, Any]) -> None:
        digest = event["digest"]
        if not event["started"] or digest in self._ended:
            return
        self._name(digest, event["name"])
        self._started[digest] = event["started"]
        if event["error"]:
            self._end(digest, f"ERROR: {event['error']}")
        elif event["cached"]:
            self._end(digest, "CACHED")
        elif event["completed"]:
            self._end(digest, f"DONE {(event['completed'] - event['started']) / _SECOND:.1f}s")

    def _log(self, event: dict[str, Any]) -> None:
        digest = event["vertex"]
        *lines, rest = (self._midline.get(digest, "") + event["data"]).split("\n")
        self._midline[digest] = rest
        seconds = max(0, event["at"] - self._started.get(digest, event["at"])) / _SECOND
        for line in lines:
            self._line(digest, f"{seconds:.3f} {line.rpartition(chr(13))[2]}")

    def _status(self, event: dict[str, Any]) -> None:
        if event["completed"]:
            self._line(event["vertex"], f"{event['id']} done")

    def _name(self, digest: str, name: str) -> None:
        if digest not in self._named:
            self._named.add(digest)
            self._line(digest, name)

    def _end(self, digest: str, text: str) -> None:
        rest = self._midline.pop(digest, "")
        if rest:
            self._line(digest, rest)
        self._line(digest, text)
        self._ended.add(digest)

    def _line(self, digest: str, text: str) -> None:
        if digest != self._last and self._last:
            print(file=self._out)
        self._last = digest
        number = self._numbers.setdefault(digest, len(self._numbers) + 1) if digest else 0
        print(f"#{number} {text}" if digest else text, file=self._out, flush=True)
