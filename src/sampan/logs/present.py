"""Entries as a client wants them: which streams and times, timestamps, details, frames."""

from __future__ import annotations

import json
import time
from functools import lru_cache
from itertools import chain, repeat
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sampan.logs.entries import Run

_NUMBERS = {"stdout": 1, "stderr": 2}


class View(NamedTuple):
    """What one client asked for. Plain values: a worker process is given it as JSON."""

    framed: bool
    """One frame a line; False for a container with a terminal."""
    stdout: bool = True
    stderr: bool = True
    timestamps: bool = False
    details: bool = False
    since_ns: int = 0
    until_ns: int | None = None

    @property
    def everything(self) -> bool:
        """Nothing is left out and nothing put before the lines: times and attributes need not be read."""
        return (
            self.stdout
            and self.stderr
            and not self.timestamps
            and not self.details
            and not self.since_ns
            and self.until_ns is None
        )

    def wants(self, stream: str, time_ns: int) -> bool:
        """Whether lines of this stream and time are shown."""
        return (
            (self.stdout if stream == "stdout" else self.stderr)
            and time_ns >= self.since_ns
            and (self.until_ns is None or time_ns <= self.until_ns)
        )


def render(runs: Iterable[Run], view: View) -> bytes:
    """Bytes for the client. What the view does not want is left out."""
    parts: list[bytes] = []
    for stream, time_ns, attrs, lines in runs:
        if view.wants(stream, time_ns):
            parts.append(_render_lines(stream, lines, _prefix(time_ns, attrs, view), view.framed))
    return b"".join(parts)


def frame_lines(streams: Iterable[str], lines: Sequence[bytes]) -> bytes:
    """One frame a line, each of its own stream."""
    headers = _headers(1, 0), _headers(2, 0)
    return b"".join(
        [
            part
            for stream, line in zip(streams, lines, strict=True)
            for part in (headers[stream == "stderr"][len(line)], line)
        ]
    )


def _render_lines(stream: str, lines: list[bytes], prefix: bytes, framed: bool) -> bytes:
    if not framed:
        return b"".join(chain.from_iterable(zip(repeat(prefix), lines))) if prefix else b"".join(lines)
    # `map` and `zip` over whole runs: no line costs a bytecode.
    headers = map(_headers(_NUMBERS.get(stream, 1), len(prefix)).__getitem__, map(len, lines))
    return b"".join(chain.from_iterable(zip(headers, repeat(prefix), lines)))


class _Headers(dict[int, bytes]):
    """Length of a line → its frame's header, made when first wanted."""

    def __init__(self, number: int, extra: int) -> None:
        super().__init__()
        self._number = number
        self._extra = extra

    def __missing__(self, length: int) -> bytes:
        header = b"%c\0\0\0%b" % (self._number, (length + self._extra).to_bytes(4, "big"))
        if length <= 1024:
            self[length] = header
        return header


@lru_cache(maxsize=8)
def _headers(number: int, extra: int) -> _Headers:
    return _Headers(number, extra)


def _prefix(time_ns: int, attrs: bytes | None, view: View) -> bytes:
    prefix = b""
    if view.timestamps:
        second, fraction = divmod(time_ns, 1_000_000_000)
        prefix = b"%b.%09dZ " % (_second(second), fraction)
    if view.details:
        prefix += _details(attrs) + b" "
    return prefix


@lru_cache(maxsize=4)
def _second(second: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()


@lru_cache(maxsize=4)
def _details(attrs: bytes | None) -> bytes:
    if not attrs:
        return b""
    pairs = sorted(json.loads(attrs).items())
    return ",".join(f"{quote_plus(key)}={quote_plus(str(value))}" for key, value in pairs).encode()
