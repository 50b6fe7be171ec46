"""What a build tells, as lines: a step when it begins, its output, and how long it took."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, Any

from sampan.client.images import checked

_SECOND = 1_000_000_000
_TRACE = "sampan.build.trace"


class Steps:
    """Numbers steps in the order in which they begin, and prints what is told of them."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._numbers: dict[str, int] = {}
        self._named: set[str] = set()
        self._ended: set[str] = set()
        self._last = ""
        self._midline: dict[str, str] = {}
        self._started: dict[str, int] = {}

    def tell(self, event: dict[str, Any]) -> None:
        """One event (`sampan.solver.progress.described`)."""
        match event["kind"]:
            case "vertex":
                self._vertex(event)
            case "log":
                self._log(event)
            case "status":
                self._status(event)
            case "warning":
                self._line("", f"WARNING: {event['short']}")
            case "failure":
                self._failure(event)

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

    def _failure(self, event: dict[str, Any]) -> None:
        """Which step it was, and where it stands."""
        print(f"------\n > {event['name']}:\n------", file=self._out)
        if event["excerpt"]:
            print(event["excerpt"], file=self._out)

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


def show(messages: Iterable[dict[str, Any]], *, quiet: bool) -> str:
    """Print what the engine says of a build; the image's id. Raises what the build failed with."""
    steps = Steps(sys.stderr)
    image = ""
    for message in checked(messages):
        if message.get("id") == _TRACE and (not quiet or message["aux"]["kind"] == "failure"):
            steps.tell(message["aux"])
        elif message.get("id") == "moby.image.id":
            image = str(message["aux"]["ID"])
    return image
