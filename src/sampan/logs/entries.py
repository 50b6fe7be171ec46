"""Log entries out of a file's bytes, for both formats.

What a container writes in one go is logged with one time (`jsonfile`), so a flood of lines comes in long runs whose
entries differ in nothing but their text. The decoders find such runs and take them apart with a few calls for the whole
run; lines that arrived one by one (or were written by dockerd) are decoded one by one.
"""

from __future__ import annotations

import calendar
import json
import os
import re
from typing import NamedTuple, Protocol

from sampan.logs.localfile import decode_record

_BLOCK = 64 * 1024
_SLOWLY = 16 * 1024
"""Bytes decoded line by line after a run has turned out to be short."""
_RUN = 4
"""Lines that make a run worth while."""

# Possessive quantifiers: fast on what matches, and no backtracking into what a hostile line could make of it.
_JSON_LINE = re.compile(
    rb'^\{(?:"log":"((?:[^"\\\n]++|\\.)*+)",)?"stream":"(\w+)",(?:"attrs":(\{.*?\}),)?"time":"([^"\n]*)"\}\n',
    re.MULTILINE,
)
_LOG = b'{"log":"'
_AFTER_LINE = b'\\n","stream":"'
"""What follows the text of a whole line. Within a text the quote would be escaped, so the first one is it."""


class Run(NamedTuple):
    """Lines, or pieces of long lines, of one stream and one time."""

    stream: str
    time_ns: int
    attrs: bytes | None
    """JSON object of `--log-opt` labels, env and tag."""
    lines: list[bytes]
    """Each with its newline; a piece that does not end its line has none."""


class Format(Protocol):
    """How a file of one driver is read."""

    def complete(self, data: bytes) -> int:
        """How many bytes of `data`, which begins at an entry, are whole entries."""
        ...

    def decode(self, data: bytes) -> list[Run]:
        """Whole entries; what cannot be read is skipped, as dockerd does."""
        ...

    def texts(self, data: bytes) -> tuple[list[str], list[bytes]] | None:
        """The streams and lines only, if these entries come one by one and that is the faster way; else None."""
        ...

    def tail(self, descriptor: int, size: int, count: int) -> tuple[int, int]:
        """(offset of the last `count` entries of the first `size` bytes, how many there are), reading backwards."""
        ...


class JsonFormat:
    """Docker's json-file."""

    def complete(self, data: bytes) -> int:
        return data.rfind(b"\n") + 1

    def decode(self, data: bytes) -> list[Run]:
        runs: list[Run] = []
        at = 0
        while at < len(data):
            run, at = _take_run(data, at)
            if run is not None:
                runs.append(run)
                if len(run.lines) >= _RUN:
                    continue
            end = data.find(b"\n", min(at + _SLOWLY, len(data) - 1)) + 1 or len(data)
            runs.extend(_decode_lines(data[at:end]))
            at = end
        return runs

    def texts(self, data: bytes) -> tuple[list[str], list[bytes]] | None:
        run, _ = _take_run(data[:_BLOCK], 0)
        if run is not None and len(run.lines) >= _RUN:
            return None
        found = _JSON_LINE.findall(data)
        if len(found) != data.count(b"\n"):
            return None
        try:
            logs = json.loads(b'["' + b'","'.join([fields[0] for fields in found]) + b'"]')
        except ValueError:
            return None
        if len(logs) != len(found):
            return None
        return [fields[1].decode() for fields in found], [
            log.encode("utf-8", "surrogatepass") for log in logs
        ]

    def tail(self, descriptor: int, size: int, count: int) -> tuple[int, int]:
        position = size
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
        return (0, found) if count > 0 else (size, 0)


def _take_run(data: bytes, at: int) -> tuple[Run | None, int]:
    """The run of whole lines that begins at `at`, and where it ends; None, and `at`, when none does."""
    end = data.find(b"\n", at) + 1
    begin = at + len(_LOG)
    cut = data.find(_AFTER_LINE, begin, end)
    if cut < 0 or not data.startswith(_LOG, at):
        return None, at
    if data[cut - 1] == 0x5C:
        return None, at  # backslashes before: \\n is no newline
    tail = data[cut:end]
    match = _JSON_LINE.match(_LOG + tail)
    if match is None:
        return None, at
    try:
        time_ns = parse_time(match[4])
    except ValueError:
        return None, at
    end = _run_end(data, end, tail)
    lines = _split_run(data[begin : end - len(tail)], tail + _LOG)
    if lines is None:
        return None, at
    return Run(match[2].decode(), time_ns, match[3], lines), end


def _run_end(data: bytes, end: int, tail: bytes) -> int:
    """The end of the last of the lines, from the one that ends at `end`, that all end with `tail`."""
    window = 2048
    while True:
        last = data.rfind(tail, end, end + window)
        if last >= 0:
            end = last + len(tail)
        # Nothing found: the run ends here, or its next line is longer than the window and begins another one.
        if last < 0 or end >= len(data):
            return end
        window = min(2 * window, 1 << 20)


def _split_run(texts: bytes, separator: bytes) -> list[bytes] | None:
    """The lines of a run, with their newlines; None when its texts are not what they seem."""
    pieces = texts.split(separator)
    joined = b"\n".join(pieces)
    # A raw newline stands for the end of an entry only: another one means that entries of another kind are among them.
    if joined.count(b"\n") != len(pieces) - 1:
        return None
    if b"\\" in joined:
        try:
            text = _decode_string(f'"{joined.decode()}"')
        except ValueError:
            return None
        joined = text.encode("utf-8", "surrogatepass")
        if joined.count(b"\n") != len(pieces) - 1:
            return None
    elif b'"' in joined:
        return None
    lines = joined.splitlines(keepends=True) if b"\r" not in joined else _keep_ends(joined)
    # bytes.splitlines ends lines at \n, \r and \r\n only, so that without \r it is exact; the last has no newline yet.
    if joined.endswith(b"\n") or not joined:
        lines.append(b"")
    lines[-1] += b"\n"
    return lines


def _keep_ends(joined: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in joined.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


_decode_string = json.JSONDecoder(strict=False).decode
"""Takes the raw newlines between texts as they are."""


def _decode_lines(data: bytes) -> list[Run]:
    runs = []
    prefix, seconds = b"", 0
    at = 0
    for match in _JSON_LINE.finditer(data):
        if match.start() != at:
            runs.extend(_decode_slowly(data[at : match.start()]))
        at = match.end()
        log, stream, attrs, time = match.groups()
        if time[:19] != prefix:
            prefix = time[:19]
            try:
                seconds = _seconds(prefix) * 1_000_000_000
            except ValueError:
                runs.extend(_decode_slowly(match.group()))
                prefix = b""
                continue
        fraction = time[20:-1]
        try:
            time_ns = seconds + (int(fraction.ljust(9, b"0")[:9]) if fraction else 0)
            runs.append(Run(stream.decode(), time_ns, attrs, [_unescape(log or b"")]))
        except ValueError:
            continue
    if at < len(data):
        runs.extend(_decode_slowly(data[at:]))
    return runs


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

    def decode(self, data: bytes) -> list[Run]:
        runs: list[Run] = []
        head = b"\0"
        """The fields before the text of the present run's records."""
        lines: list[bytes] = []
        at = 0
        while at < len(data):
            begin = at + 4
            end = begin + int.from_bytes(data[at:begin], "big")
            at = end + 4
            if data.startswith(head, begin):
                text = _rest_of_record(data, begin + len(head), end)
                if text is not None:
                    lines.append(text + b"\n")
                    continue
            body = data[begin:end]
            try:
                source, time_ns, line, ends_line = decode_record(body)
            except ValueError:
                continue
            lines = [line + b"\n" if ends_line else line]
            runs.append(Run(source, time_ns, None, lines))
            head = _head_of_record(body, line)
        return runs

    def texts(self, data: bytes) -> tuple[list[str], list[bytes]] | None:
        return None

    def tail(self, descriptor: int, size: int, count: int) -> tuple[int, int]:
        position = self._end(descriptor, size)
        found = 0
        while found < count and position >= 8:
            length = int.from_bytes(os.pread(descriptor, 4, position - 4), "big")
            if length + 8 > position:
                break
            position -= length + 8
            found += 1
        return position, found

    def _end(self, descriptor: int, size: int) -> int:
        """Where the last whole record ends: the writer may have been in the midst of one."""
        if size >= 8:
            last = os.pread(descriptor, 4, size - 4)
            begin = size - int.from_bytes(last, "big") - 8
            if begin >= 0 and os.pread(descriptor, 4, begin) == last:
                return size
        end = 0
        while data := os.pread(descriptor, min(4 * _BLOCK, size - end), end):
            whole = self.complete(data)
            if not whole:
                break
            end += whole
        return end


def _rest_of_record(data: bytes, at: int, end: int) -> bytes | None:
    """The text of a record whose other fields came before `at`; None when something follows it."""
    if at >= end:
        return None
    length = data[at]
    at += 1
    if length >= 0x80:
        length = length & 0x7F | data[at] << 7
        at += 1
        if length >= 1 << 14:
            length = length & 0x3FFF | data[at] << 14
            at += 1
    return data[at:end] if at + length == end else None


def _head_of_record(body: bytes, line: bytes) -> bytes:
    """The fields before the text, with the text's key, if the text is the last field."""
    if not body.endswith(line):
        return b"\0"
    for size in (1, 2, 3):
        head = len(body) - len(line) - size
        if head > 0 and body[head - 1] == 0x1A and _rest_of_record(body, head, len(body)) is not None:
            return body[:head]
    return b"\0"


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


def _decode_slowly(data: bytes) -> list[Run]:
    """Lines in another order of keys, or with something else in them."""
    runs = []
    for line in data.splitlines():
        try:
            fields = json.loads(line)
            attrs = fields.get("attrs")
            runs.append(
                Run(
                    fields.get("stream", "stdout"),
                    parse_time(fields["time"].encode()),
                    json.dumps(attrs).encode() if attrs else None,
                    [fields.get("log", "").encode("utf-8", "surrogatepass")],
                )
            )
        except (ValueError, KeyError, AttributeError, TypeError):
            continue
    return runs
