"""Docker's `local` log driver format: binary records, framed by their length on both sides.

    length (4 bytes, big-endian) · LogEntry (protobuf) · length again

so that a file can be read backwards. LogEntry: source = 1, time_nano = 2, line = 3 (without newline), partial = 4,
partial_log_metadata = 5 {last = 1, id = 2, ordinal = 3}.
"""

from __future__ import annotations

import os
from typing import NamedTuple


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class LocalEncoder:
    """Blocks of one container's log into records."""

    def __init__(self) -> None:
        self._pieces: dict[str, tuple[str, int]] = {}
        """stream → (id, ordinal) of the long line being written"""

    def encode(self, stream: str, block: bytes, time_ns: int, *, partial: bool) -> bytes:
        """The records of whole lines, or of one piece."""
        head = b"\x0a" + _varint(len(stream)) + stream.encode() + b"\x10" + _varint(time_ns) + b"\x1a"
        if partial:
            identity, ordinal = self._pieces.get(stream, (os.urandom(32).hex(), 0))
            self._pieces[stream] = (identity, ordinal + 1)
            return _record(head + _varint(len(block)) + block, identity, ordinal + 1, last=False)
        lines = block[:-1].split(b"\n")
        records = []
        long = self._pieces.pop(stream, None)
        if long is not None:
            first = lines.pop(0)
            records.append(_record(head + _varint(len(first)) + first, long[0], long[1] + 1, last=True))
        for line in lines:
            body = head + _varint(len(line)) + line
            frame = len(body).to_bytes(4, "big")
            records.append(frame + body + frame)
        return b"".join(records)

    @staticmethod
    def entry_end(data: bytes, at: int) -> int:
        """The first end of a record at or after `at`."""
        end = 0
        while end < at:
            end += int.from_bytes(data[end : end + 4], "big") + 8
        return end


def _record(body: bytes, identity: str, ordinal: int, *, last: bool) -> bytes:
    metadata = (b"\x08\x01" if last else b"") + b"\x12" + _varint(len(identity)) + identity.encode()
    metadata += b"\x18" + _varint(ordinal)
    body += b"\x20\x01\x2a" + _varint(len(metadata)) + metadata
    frame = len(body).to_bytes(4, "big")
    return frame + body + frame


class Record(NamedTuple):
    """One decoded LogEntry."""

    source: str
    time_ns: int
    line: bytes
    ends_line: bool
    """False for a piece of a long line that is not the last one."""


def decode_record(body: bytes) -> Record:
    """A LogEntry from its protobuf form. Raises ValueError when it is not one."""
    source, time_ns, line = "", 0, b""
    partial = last = False
    for number, value in _fields(body):
        if number == 1 and isinstance(value, bytes):
            source = value.decode("utf-8", "replace")
        elif number == 2 and isinstance(value, int):
            time_ns = value
        elif number == 3 and isinstance(value, bytes):
            line = value
        elif number == 4:
            partial = bool(value)
        elif number == 5 and isinstance(value, bytes):
            last = any(inner == 1 and bool(flag) for inner, flag in _fields(value))
    return Record(source, time_ns, line, not partial or last)


def _fields(body: bytes) -> list[tuple[int, int | bytes]]:
    fields: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(body):
        key, at = _read_varint(body, at)
        if key & 7 == 0:
            value, at = _read_varint(body, at)
            fields.append((key >> 3, value))
        elif key & 7 == 2:
            length, at = _read_varint(body, at)
            if at + length > len(body):
                raise ValueError("log record ends within a field")
            fields.append((key >> 3, body[at : at + length]))
            at += length
        else:
            raise ValueError(f"log record has wire type {key & 7}")
    return fields


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(body) or shift > 63:
            raise ValueError("log record ends within a number")
        byte = body[at]
        number |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return number, at
