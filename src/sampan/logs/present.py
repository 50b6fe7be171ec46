"""Entries as a client of `docker logs` wants them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.logs.entries import Entry

_NUMBERS = {"stdout": 1, "stderr": 2}


def render(
    entries: Iterable[Entry],
    *,
    framed: bool,
    stdout: bool = True,
    stderr: bool = True,
    timestamps: bool = False,
    details: bool = False,
) -> bytes:
    """Bytes for the client: one frame a line unless the container has a terminal (`framed` false)."""
    parts: list[bytes] = []
    second, prefix = -1, ""
    for stream, time_ns, line, attrs in entries:
        if not (stdout if stream == "stdout" else stderr):
            continue
        if details:
            line = _details(attrs) + b" " + line
        if timestamps:
            if time_ns // 1_000_000_000 != second:
                second = time_ns // 1_000_000_000
                prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            line = f"{prefix}.{time_ns % 1_000_000_000:09d}Z ".encode() + line
        if framed:
            parts.append(b"%c\0\0\0%b" % (_NUMBERS.get(stream, 1), len(line).to_bytes(4, "big")))
        parts.append(line)
    return b"".join(parts)


def _details(attrs: bytes | None) -> bytes:
    if not attrs:
        return b""
    pairs = sorted(json.loads(attrs).items())
    return ",".join(f"{quote_plus(key)}={quote_plus(str(value))}" for key, value in pairs).encode()
