"""Writing tar reproducibly: ustar headers, with a pax header before each that needs more than ustar holds.

Needed are they for long or non-ASCII names, times with a fraction, extended attributes, large numbers and sparse files (GNU's
format 1.0, which GNU tar, libarchive and Go read). No user names, no access times: the same tree gives the same bytes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.archive.tarread import BLOCK, CHARACTER, DEVICE, REGULAR, Entry

if TYPE_CHECKING:
    from sampan.archive.compression import OutputStream

_CHUNK = 1 << 20
_OCTAL_7 = 0o7777777
_OCTAL_11 = 0o77777777777


class TarWriter:
    """Entries into an output stream; `finish` writes the end of the archive, not of the stream."""

    def __init__(self, out: OutputStream) -> None:
        self._out = out
        self.entries = 0

    def add(self, entry: Entry, fd: int | None = None) -> None:
        """One entry; a regular file's data is read from `fd`, exactly `entry.size` bytes of it.

        A file that shrinks meanwhile is filled up with zeros, one that grows is cut.
        """
        self.entries += 1
        sparse_map = _sparse_map(entry) if entry.sparse is not None else b""
        stored = len(sparse_map) + (entry.size if entry.kind == REGULAR else 0)
        records = _pax_records(entry, stored)
        if records:
            self._extended(entry, records)
        self._out.write(_header(entry, entry.kind.encode(), os.fsencode(entry.name), stored))
        if entry.kind == REGULAR and stored:
            assert fd is not None  # who announces data brings the file
            self._out.write(sparse_map)
            for offset, length in entry.sparse if entry.sparse is not None else [(0, entry.size)]:
                self._data(fd, offset, length)
            self._out.write(bytes(-stored % BLOCK))

    def finish(self) -> None:
        self._out.write(bytes(2 * BLOCK))

    def _extended(self, entry: Entry, records: dict[bytes, bytes]) -> None:
        body = b"".join(_record(key, records[key]) for key in sorted(records))
        header = Entry()
        header.name = ""
        header.kind, header.mode, header.uid, header.gid, header.link = "x", 0o644, 0, 0, ""
        header.mtime_ns = header.major = header.minor = 0
        base = entry.name.rstrip("/").rpartition("/")[2].encode("ascii", "replace")[:80]
        self._out.write(_header(header, b"x", b"PaxHeaders.0/" + base, len(body)))
        self._out.write(body + bytes(-len(body) % BLOCK))

    def _data(self, fd: int, offset: int, length: int) -> None:
        while length:
            data = os.pread(fd, min(length, _CHUNK), offset) or bytes(min(length, _CHUNK))
            self._out.write(data)
            offset += len(data)
            length -= len(data)


def _header(entry: Entry, kind: bytes, name: bytes, size: int) -> bytes:
    link = os.fsencode(entry.link)
    has_device = entry.kind in (CHARACTER, DEVICE)
    fields = (
        name[:100].ljust(100, b"\0"),
        b"%07o\0" % entry.mode,
        b"%07o\0" % (entry.uid if entry.uid <= _OCTAL_7 else 0),
        b"%07o\0" % (entry.gid if entry.gid <= _OCTAL_7 else 0),
        b"%011o\0" % (size if size <= _OCTAL_11 else 0),
        b"%011o\0" % _whole_seconds(entry),
        b"        ",
        kind,
        link[:100].ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % (entry.major if has_device else 0),
        b"%07o\0" % (entry.minor if has_device else 0),
        bytes(155 + 12),
    )
    block = bytearray(b"".join(fields))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _pax_records(entry: Entry, stored: int) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    name, link = os.fsencode(entry.name), os.fsencode(entry.link)
    if entry.sparse is not None:
        # The real name stands in a record of its own; readers without sparse support unpack the raw data.
        records[b"GNU.sparse.major"], records[b"GNU.sparse.minor"] = b"1", b"0"
        records[b"GNU.sparse.name"] = name
        records[b"GNU.sparse.realsize"] = b"%d" % entry.real_size
    elif len(name) > 100 or not name.isascii():
        records[b"path"] = name
    if len(link) > 100 or not link.isascii():
        records[b"linkpath"] = link
    if entry.uid > _OCTAL_7:
        records[b"uid"] = b"%d" % entry.uid
    if entry.gid > _OCTAL_7:
        records[b"gid"] = b"%d" % entry.gid
    if stored > _OCTAL_11:
        records[b"size"] = b"%d" % stored
    if entry.mtime_ns != _whole_seconds(entry) * 1_000_000_000:
        records[b"mtime"] = _seconds(entry.mtime_ns)
    for key, value in (entry.xattrs or {}).items():
        records[b"SCHILY.xattr." + os.fsencode(key)] = value
    return records


def _record(key: bytes, value: bytes) -> bytes:
    """`length key=value\\n`, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _whole_seconds(entry: Entry) -> int:
    seconds = entry.mtime_ns // 1_000_000_000
    return seconds if 0 <= seconds <= _OCTAL_11 else 0


def _seconds(ns: int) -> bytes:
    sign, (whole, fraction) = ("-" if ns < 0 else ""), divmod(abs(ns), 1_000_000_000)
    text = f"{sign}{whole}.{fraction:09d}".rstrip("0").rstrip(".")
    return text.encode()


def _sparse_map(entry: Entry) -> bytes:
    pieces = list(entry.sparse or [])
    if not pieces or sum(pieces[-1]) < entry.real_size:
        pieces.append((entry.real_size, 0))  # GNU tar takes the length from the last piece
    lines = [len(pieces), *(number for piece in pieces for number in piece)]
    text = b"".join(b"%d\n" % number for number in lines)
    return text + bytes(-len(text) % BLOCK)
