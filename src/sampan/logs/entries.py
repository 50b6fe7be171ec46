"""Log entries out of a file's bytes, for both formats."""

from __future__ import annotations

import calendar
import json
import os
import re
from typing import NamedTuple, Protocol

from sampan.logs.localfile import decode_record

_BLOCK = 64 * 1024
# Possessive quantifiers: fast on what matches, and no backtracking into what a hostile line could make of it.
_JSON_LINE = re.compile(
    rb'\{(?:"log":"((?:[^"\\]++|\\.)*+)",)?"stream":"(\w+)",(?:"attrs":(\{.*?\}),)?"time":"([^"]*)"\}\n'
)


class Entry(NamedTuple):
    """One line, or one piece of a long line."""

    stream: str
    time_ns: int
    line: bytes
    """With its newline; a piece that does not end its line has none."""
    attrs: bytes | None
    """JSON object of `--log-opt` labels, env and tag."""


class Format(Protocol):
    """How a file of one driver is read."""

    def complete(self, data: bytes) -> int:
        """How many bytes of `data`, which begins at an entry, are whole entries."""
        ...

    def decode(self, data: bytes) -> list[Entry]:
        """Whole entries; what cannot be read is skipped, as dockerd does."""
        ...

    def tail(self, descriptor: int, count: int) -> tuple[int, int]:
        """(offset of the last `count` entries, how many there are), reading backwards."""
        ...


class JsonFormat:
    """Docker's json-file."""

    def complete(self, data: bytes) -> int:
        return data.rfind(b"\n") + 1

    def decode(self, data: bytes) -> list[Entry]:
        entries = []
        prefix, seconds = b"", 0
        at = 0
        for match in _JSON_LINE.finditer(data):
            if match.start() != at:
                entries.extend(_decode_slowly(data[at : match.start()]))
            at = match.end()
            log, stream, attrs, time = match.groups()
            if time[:19] != prefix:
                prefix = time[:19]
                try:
                    seconds = _seconds(prefix) * 1_000_000_000
                except ValueError:
                    entries.extend(_decode_slowly(match.group()))
                    prefix = b""
                    continue
            fraction = time[20:-1]
            time_ns = seconds + (int(fraction.ljust(9, b"0")) if fraction else 0)
            entries.append(Entry(stream.decode(), time_ns, _unescape(log or b""), attrs))
        if at < len(data):
            entries.extend(_decode_slowly(data[at:]))
        return entries

    def tail(self, descriptor: int, count: int) -> tuple[int, int]:
        position = os.fstat(descriptor).st_size
        wanted = count + 1  # the newline before the first wanted entry, too
        found = 0
        while position > 0 and count > 0:
            begin = max(0, position - _BLOCK)
            block = os.pread(descriptor, position - begin, begin)
            newlines = block.count(b"\n")
            if found + newlines < wanted:
                found += newlines
                position = begin
                continue
            at = len(block)
            while found < wanted:
                at = block.rindex(b"\n", 0, at)
                found += 1
            return begin + at + 1, count
        return (0, found) if count > 0 else (os.fstat(descriptor).st_size, 0)


class LocalFormat:
    """Docker's `local` driver."""

    def complete(self, data: bytes) -> int:
        end = 0
        while end + 4 <= len(data):
            after = end + int.from_bytes(data[end : end + 4], "big") + 8
            if after > len(data):
                break
            end = after
        return end

    def decode(self, data: bytes) -> list[Entry]:
        entries = []
        at = 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 4], "big")
            try:
                source, time_ns, line, ends_line = decode_record(data[at + 4 : at + 4 + length])
            except ValueError:
                pass
            else:
                entries.append(Entry(source, time_ns, line + b"\n" if ends_line else line, None))
            at += length + 8
        return entries

    def tail(self, descriptor: int, count: int) -> tuple[int, int]:
        position = os.fstat(descriptor).st_size
        found = 0
        while found < count and position >= 8:
            length = int.from_bytes(os.pread(descriptor, 4, position - 4), "big")
            if length + 8 > position:
                break
            position -= length + 8
            found += 1
        return position, found


FORMATS: dict[str, Format] = {"json-file": JsonFormat(), "local": LocalFormat()}


def parse_time(text: bytes) -> int:
    """RFC 3339 in UTC into nanoseconds. Raises ValueError."""
    fraction = text[20:-1]
    return _seconds(text[:19]) * 1_000_000_000 + (int(fraction.ljust(9, b"0")[:9]) if fraction else 0)


def _seconds(text: bytes) -> int:
    fields = (text[0:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19])
    year, month, day, hour, minute, second = map(int, fields)
    return calendar.timegm((year, month, day, hour, minute, second))


def _unescape(log: bytes) -> bytes:
    if log.endswith(b"\\n") and log.count(b"\\") == 1:
        return log[:-2] + b"\n"
    if b"\\" not in log:
        return log
    return json.loads(b'"' + log + b'"').encode("utf-8", "surrogatepass")  # type: ignore[no-any-return]


def _decode_slowly(data: bytes) -> list[Entry]:
    """Lines in another order of keys, or with something else in them."""
    entries = []
    for line in data.splitlines():
        try:
            fields = json.loads(line)
            attrs = fields.get("attrs")
            entries.append(
                Entry(
                    fields.get("stream", "stdout"),
                    parse_time(fields["time"].encode()),
                    fields.get("log", "").encode("utf-8", "surrogatepass"),
                    json.dumps(attrs).encode() if attrs else None,
                )
            )
        except (ValueError, KeyError, AttributeError, TypeError):
            continue
    return entries
