"""Docker's json-file format: one JSON object a line.

    {"log":"text\\n","stream":"stdout","attrs":{…},"time":"2024-05-06T07:08:09.123456789Z"}

Encoding works on blocks of many lines with a handful of C-speed passes, so that a container that floods its output
is not slowed down by its log. All lines of one read from the pipe get the time of that read.
"""

from __future__ import annotations

import json
import re
import time

# What Go's encoder escapes: control characters, quotes, and what HTML gives a meaning to.
_UNSAFE = bytes([*range(0x20), *b'"\\<>&'])
_PLAIN = bytes(set(range(0x100)) - set(_UNSAFE) | {0x0A})
_ESCAPES = {bytes([byte]): b"\\u%04x" % byte for byte in _UNSAFE} | {
    b"\\": b"\\\\",
    b'"': b'\\"',
    b"\r": b"\\r",
}
_UNDECODABLE = re.compile("[\udc80-\udcff]")


def timestamp(time_ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds, trailing zeros dropped: Go's RFC3339Nano."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    if nanoseconds:
        text += f".{nanoseconds:09d}".rstrip("0")
    return text + "Z"


def escape(block: bytes) -> bytes:
    """The JSON string content for `block`, newlines left as they are. Invalid UTF-8 becomes \\ufffd, byte by byte."""
    special = set(block.translate(None, _PLAIN))
    # Backslashes first: the other replacements bring in new ones.
    for byte in sorted(special, key=lambda byte: byte != 0x5C):
        raw = bytes([byte])
        block = block.replace(raw, _ESCAPES[raw])
    return block if block.isascii() else _escape_beyond_ascii(block)


def _escape_beyond_ascii(block: bytes) -> bytes:
    try:
        block.decode()
    except UnicodeDecodeError:
        text = block.decode("utf-8", "surrogateescape")
        block = _UNDECODABLE.sub(r"\\ufffd", text).encode()
    # Line separators that JavaScript takes for the end of a line.
    return block.replace("\u2028".encode(), rb"\u2028").replace("\u2029".encode(), rb"\u2029")


class JsonEncoder:
    """Blocks of one container's log into bytes of the file."""

    def __init__(self, attrs: dict[str, str]) -> None:
        self._attrs = b""
        if attrs:
            text = json.dumps(attrs, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
            for character in "<>&":
                text = text.replace(character, f"\\u{ord(character):04x}")
            self._attrs = b'"attrs":' + text.encode("utf-8", "replace") + b","

    def encode(self, stream: str, block: bytes, time_ns: int, *, partial: bool) -> bytes:
        """The entries of whole lines, or of one piece."""
        tail = b'","stream":"%b",%b"time":"%b"}\n' % (
            stream.encode(),
            self._attrs,
            timestamp(time_ns).encode(),
        )
        if partial:
            return b'{"log":"' + escape(block).replace(b"\n", b"\\n") + tail
        tail = b"\\n" + tail
        return b'{"log":"' + escape(block)[:-1].replace(b"\n", tail + b'{"log":"') + tail

    @staticmethod
    def entry_end(data: bytes, at: int) -> int:
        """The first end of an entry at or after `at`."""
        return data.index(b"\n", max(at - 1, 0)) + 1
