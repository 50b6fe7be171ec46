"""A build's events as buildx's `--progress=rawjson` has them: a JSON object a line."""

from __future__ import annotations

import base64
import json
import time
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECOND = 1_000_000_000


class RawJson:
    """Prints them."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def show(self, events: Sequence[dict[str, Any]]) -> None:
        """Some events, as one line."""
        told: dict[str, list[dict[str, Any]]] = {}
        for event in events:
            if event.get("level") == 0:
                continue  # advice, which buildx does not know
            name, describe = _KINDS[event["kind"]]
            told.setdefault(name, []).append(describe(event))
        if told:
            print(json.dumps(told, separators=(",", ":")), file=self._out, flush=True)

    def finish(self, *, failed: bool) -> None:
        """The last line was the last event."""


def _vertex(event: dict[str, Any]) -> dict[str, Any]:
    told = {"digest": event["digest"], "name": event["name"], **_times(event, "started", "completed")}
    if event["inputs"]:
        told["inputs"] = list(event["inputs"])
    if event["cached"]:
        told["cached"] = True
    if event["error"]:
        told["error"] = event["error"]
    return told


def _status(event: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": event["id"],
        "vertex": event["vertex"],
        "name": event["name"],
        "total": event["total"],
        "current": event["current"],
        "timestamp": _time(event["at"]),
        **_times(event, "started", "completed"),
    }


def _log(event: dict[str, Any]) -> dict[str, Any]:
    data = base64.b64encode(event["data"].encode()).decode()
    return {
        "vertex": event["vertex"],
        "stream": event["stream"],
        "data": data,
        "timestamp": _time(event["at"]),
    }


def _warning(event: dict[str, Any]) -> dict[str, Any]:
    return {
        "vertex": event["vertex"],
        "level": event["level"],
        "short": base64.b64encode(event["short"].encode()).decode(),
        "detail": [base64.b64encode(line.encode()).decode() for line in event["detail"]],
        "url": event["url"],
    }


_KINDS = {
    "vertex": ("vertexes", _vertex),
    "status": ("statuses", _status),
    "log": ("logs", _log),
    "warning": ("warnings", _warning),
}


def _times(event: dict[str, Any], *names: str) -> dict[str, str]:
    return {name: _time(event[name]) for name in names if event[name]}


def _time(nanoseconds: int) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // _SECOND))
    return f"{moment}.{nanoseconds % _SECOND:09}Z"
