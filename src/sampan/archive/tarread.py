"""Reading tar: v7, ustar, GNU and pax, from a stream, one entry after the other.

Lean because layers have tens of thousands of entries: a header costs 4 µs here and 45 in the standard library's
`tarfile`, against which, and against GNU tar, this is tested. Everything read is hostile: every number and length
is checked, and every error names the entry.

Formats: POSIX.1-2017 "pax", ustar; GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING, Protocol

from sampan.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
NUL = b"\0"
EXTENSION_LIMIT = 1 << 20
"""Bytes of a pax header, long name or sparse map; Go's reader, and so Docker, has the same limit."""

REGULAR, LINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO = "0", "1", "2", "3", "4", "5", "6"

_HEADER = Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_ZEROS = bytes(BLOCK)
_LARGEST = 2**63 - 1
_XATTR = "SCHILY.xattr."


class Chunks(Protocol):
    """Where the bytes come from."""

    def read(self) -> bytes:
        """Some bytes; empty at the end."""
        ...


class Entry:
    """One member. Names are text with surrogate escapes, as `os.fsdecode` makes them; no NUL is in them."""

    __slots__ = (
        "atime_ns",
        "gid",
        "kind",
        "link",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "real_size",
        "size",
        "sparse",
        "uid",
        "xattrs",
    )

    name: str
    kind: str
    """One of the constants above; contiguous and sparse files are REGULAR."""
    mode: int
    uid: int
    gid: int
    size: int
    """Bytes of data that follow in the archive."""
    real_size: int
    """Bytes the file has: `size` but for sparse files."""
    mtime_ns: int
    atime_ns: int | None
    link: str
    major: int
    minor: int
    xattrs: dict[str, bytes] | None
    sparse: list[tuple[int, int]] | None
    """(offset, length) of each piece of data, in order; None for a plain file."""


class TarReader:
    """Iterate for the entries; between two steps read the data of the current one, or leave it."""

    def __init__(self, source: Chunks) -> None:
        self._source = source
        self._buffer = b""
        self._at = 0
        self._left = 0  # of the current entry's data
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        extension: dict[str, str | bytes] = {}
        long_name: str | None = None
        long_link: str | None = None
        last = "the first entry"
        while (header := self._next_header(last)) is not None:
            entry = _parse_header(header, last)
            kind = entry.kind
            if kind == "x":
                extension = self._read_pax(entry)
            elif kind == "g":
                self._take_extension(entry)  # defaults for all entries; Docker ignores them too
            elif kind == "L":
                long_name = _text(self._take_extension(entry).rstrip(b"\0"), entry.name)
            elif kind == "K":
                long_link = _text(self._take_extension(entry).rstrip(b"\0"), entry.name)
            elif kind == "V":
                self._begin_data(entry.size)  # a volume label
            else:
                if long_name is not None:
                    entry.name = long_name
                if long_link is not None:
                    entry.link = long_link
                if extension:
                    _apply_pax(entry, extension)
                self._begin_data(0 if kind in "123456" else entry.size)
                if kind == "S":
                    self._read_old_sparse(entry, header)
                elif extension:
                    self._read_pax_sparse(entry, extension)
                if kind in "\x0007S":
                    # Before POSIX there was no type for directories: the name says it.
                    entry.kind = DIRECTORY if entry.name.endswith("/") and kind != "S" else REGULAR
                extension, long_name, long_link = {}, None, None
                last = entry.name
                yield entry
            self._skip_data(last)

    # -- data of the current entry

    def read(self) -> bytes:
        """Some of the current entry's data; empty at its end. Raises InvalidParameter when the archive ends early."""
        if self._left == 0:
            return b""
        if self._at == len(self._buffer):
            self._refill()
        data = self._buffer[self._at : self._at + self._left]
        self._at += len(data)
        self._left -= len(data)
        return data

    def read_view(self) -> memoryview:
        """Like `read` without a copy; valid until the next call."""
        if self._at == len(self._buffer) and self._left:
            self._refill()
        view = memoryview(self._buffer)[self._at : self._at + self._left]
        self._at += len(view)
        self._left -= len(view)
        return view

    def drain(self, limit: int) -> None:
        """Read what follows the archive's end, so that digests are complete. Raises beyond `limit` bytes."""
        while data := self._source.read():
            limit -= len(data)
            if limit < 0:
                raise InvalidParameter("too much data after the end of the archive")

    # -- the stream below

    def _refill(self) -> None:
        self._buffer = self._source.read()
        self._at = 0
        if not self._buffer:
            raise InvalidParameter("unexpected end of archive")

    def _block(self) -> bytes:
        """The next 512 bytes; fewer at the end of the stream."""
        end = self._at + BLOCK
        if end <= len(self._buffer):
            block = self._buffer[self._at : end]
            self._at = end
            return block
        block = self._buffer[self._at :]
        while len(block) < BLOCK:
            self._buffer = self._source.read()
            self._at = 0
            if not self._buffer:
                return block
            self._at = min(BLOCK - len(block), len(self._buffer))
            block += self._buffer[: self._at]
        return block

    def _next_header(self, last: str) -> bytes | None:
        block = self._block()
        if block == _ZEROS:
            second = self._block()
            if second not in (_ZEROS, b""):
                raise InvalidParameter(f"invalid tar header after {last!r}: data after a block of zeros")
            return None
        if block == b"":
            return None
        if len(block) < BLOCK:
            raise InvalidParameter(f"unexpected end of archive after {last!r}")
        return block

    def _begin_data(self, size: int) -> None:
        self._left = size
        self._padding = -size % BLOCK

    def _skip_data(self, name: str) -> None:
        rest = self._left + self._padding
        self._left = self._padding = 0
        while rest:
            available = len(self._buffer) - self._at
            if available >= rest:
                self._at += rest
                return
            rest -= available
            try:
                self._refill()
            except InvalidParameter as error:
                raise InvalidParameter(f"entry {name!r}: {error}") from None

    def _take_extension(self, entry: Entry) -> bytes:
        if entry.size > EXTENSION_LIMIT:
            raise InvalidParameter(f"entry {entry.name!r}: header of {entry.size} bytes is too long")
        self._begin_data(entry.size)
        parts = []
        while data := self.read():
            parts.append(data)
        return b"".join(parts)

    def _read_pax(self, entry: Entry) -> dict[str, str | bytes]:
        return _parse_pax(self._take_extension(entry), entry.name)

    # -- sparse files

    def _read_old_sparse(self, entry: Entry, header: bytes) -> None:
        """GNU's old format: four pieces in the header, more in blocks that follow it."""
        pieces = _old_pieces(header[386:482], entry.name)
        more = header[482] != 0
        entry.real_size = _number(header[483:495], entry.name)
        consumed = 0
        while more:
            block = self._block()
            consumed += BLOCK
            if len(block) < BLOCK or consumed > EXTENSION_LIMIT:
                raise InvalidParameter(f"entry {entry.name!r}: invalid sparse map")
            pieces += _old_pieces(block[:504], entry.name)
            more = block[504] != 0
        entry.sparse = _checked_pieces(pieces, entry, entry.size)

    def _read_pax_sparse(self, entry: Entry, extension: dict[str, str | bytes]) -> None:
        """GNU's pax formats 0.0 and 0.1 (map in the header) and 1.0 (map before the data)."""
        if "GNU.sparse.major" in extension:
            if (extension["GNU.sparse.major"], extension.get("GNU.sparse.minor")) != ("1", "0"):
                raise InvalidParameter(f"entry {entry.name!r}: unknown sparse format")
            entry.real_size = _decimal(extension.get("GNU.sparse.realsize", ""), entry.name)
            before = self._left
            pieces = self._read_map(entry)
            entry.sparse = _checked_pieces(pieces, entry, self._left)
            entry.size -= before - self._left
        elif "GNU.sparse.map" in extension:
            numbers = [
                _decimal(each, entry.name) for each in str(extension["GNU.sparse.map"]).split(",") if each
            ]
            entry.real_size = _decimal(extension.get("GNU.sparse.size", ""), entry.name)
            if len(numbers) % 2:
                raise InvalidParameter(f"entry {entry.name!r}: invalid sparse map")
            entry.sparse = _checked_pieces(
                list(zip(numbers[::2], numbers[1::2], strict=True)), entry, entry.size
            )

    def _read_map(self, entry: Entry) -> list[tuple[int, int]]:
        """Decimal numbers, a line each: how many pieces, then offset and length of each; padded to a block."""
        text = b""
        blocks = 0

        def line() -> int:
            nonlocal text, blocks
            while b"\n" not in text:
                if self._left < BLOCK or blocks * BLOCK >= EXTENSION_LIMIT:
                    raise InvalidParameter(f"entry {entry.name!r}: invalid sparse map")
                block = self._block()
                self._left -= BLOCK
                blocks += 1
                if len(block) < BLOCK:
                    raise InvalidParameter(f"entry {entry.name!r}: unexpected end of archive")
                text += block
            number, _, text = text.partition(b"\n")
            return _decimal(number.decode("ascii", "replace"), entry.name)

        count = line()
        if count > EXTENSION_LIMIT // 4:
            raise InvalidParameter(f"entry {entry.name!r}: invalid sparse map")
        return [(line(), line()) for _ in range(count)]


def _parse_header(header: bytes, last: str) -> Entry:
    (name, mode, uid, gid, size, mtime, checksum, kind, link, magic, _, _, major, minor, prefix) = (
        _HEADER.unpack(header)
    )
    _check_sum(header, checksum, last)
    entry = Entry()
    text = _text(name.partition(b"\0")[0], last)
    if prefix[0] and magic == b"ustar\x0000":
        text = f"{_text(prefix.partition(NUL)[0], last)}/{text}"
    entry.name = text
    entry.kind = kind.decode("latin-1")
    entry.mode = _number(mode, text) & 0o7777
    entry.uid = _number(uid, text)
    entry.gid = _number(gid, text)
    entry.size = entry.real_size = _number(size, text)
    entry.mtime_ns = _number(mtime, text, signed=True) * 1_000_000_000
    entry.atime_ns = None
    entry.link = _text(link.partition(b"\0")[0], text) if link[0] else ""
    if kind in b"34":
        entry.major, entry.minor = _number(major, text), _number(minor, text)
    else:
        entry.major = entry.minor = 0
    entry.xattrs = None
    entry.sparse = None
    return entry


def _check_sum(header: bytes, field: bytes, last: str) -> None:
    """The header's bytes must add up to what it says, its own field taken as spaces.

    adler32's low half is the sum of the bytes plus one, modulo 65521, computed in C.
    """
    try:
        wanted = int(field.strip(b" \0") or b"0", 8) - 256
    except ValueError:
        raise InvalidParameter(f"invalid tar header after {last!r}") from None
    if ((zlib.adler32(header) & 0xFFFF) - 1 - sum(field) - wanted) % 65521 == 0:
        return
    signed = Struct("512b").unpack(header)  # what some old tars summed
    if sum(signed) - sum(signed[148:156]) != wanted:
        raise InvalidParameter(f"invalid tar header after {last!r}: wrong checksum")


def _number(field: bytes, name: str, signed: bool = False) -> int:
    """Octal text, or GNU's base 256 when the first bit is set. Negative only where `signed`."""
    try:
        value = int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        value = _odd_number(field, name)
    if not (-_LARGEST if signed else 0) <= value <= _LARGEST:
        raise InvalidParameter(f"entry {name!r}: absurd number in its header")
    return value


def _odd_number(field: bytes, name: str) -> int:
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
        if field[0] & 0x40:  # two's complement below the marking bit
            value -= 1 << (8 * len(field) - 1)
    else:
        try:
            value = int(field.partition(b"\0")[0].strip(b" ") or b"0", 8)
        except ValueError:
            raise InvalidParameter(f"entry {name!r}: invalid number {field!r} in its header") from None
    return value


def _text(raw: bytes, name: str) -> str:
    if 0 in raw:
        raise InvalidParameter(f"entry {name!r}: name with a NUL byte")
    return raw.decode("utf-8", "surrogateescape")


def _decimal(text: str | bytes, name: str) -> int:
    try:
        value = int(text) if str(text).isascii() else -1
    except ValueError:
        value = -1
    if not 0 <= value <= _LARGEST:
        raise InvalidParameter(f"entry {name!r}: invalid number {text!r} in its extended header")
    return value


def _parse_pax(data: bytes, name: str) -> dict[str, str | bytes]:
    """The records `length key=value\\n`; xattr values stay bytes. A later record wins, an empty one takes back."""
    records: dict[str, str | bytes] = {}
    pieces: list[str] = []
    at = 0
    while at < len(data) and data[at]:
        digits, space, _ = data[at : at + 21].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = data[at : at + length]
        key_raw, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if len(record) != length or length < len(digits) + 3 or not equals or record[-1:] != b"\n":
            raise InvalidParameter(f"entry {name!r}: invalid extended header")
        at += length
        key = _text(key_raw, name)
        if key.startswith(_XATTR):
            records[key] = bytes(value)
        elif key in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            pieces.append(_text(value, name))  # format 0.0 repeats them
        elif value:
            records[key] = _text(value, name)
        else:
            records.pop(key, None)
    if pieces:
        records.setdefault("GNU.sparse.map", ",".join(pieces))
    return records


def _apply_pax(entry: Entry, records: dict[str, str | bytes]) -> None:
    for key, value in records.items():
        if isinstance(value, bytes):
            if entry.xattrs is None:
                entry.xattrs = {}
            entry.xattrs[key[len(_XATTR) :]] = value
        elif key in ("path", "GNU.sparse.name"):
            if key == "path" and "GNU.sparse.name" in records:
                continue
            entry.name = value
        elif key == "linkpath":
            entry.link = value
        elif key == "size":
            entry.size = entry.real_size = _decimal(value, entry.name)
        elif key == "uid":
            entry.uid = _decimal(value, entry.name)
        elif key == "gid":
            entry.gid = _decimal(value, entry.name)
        elif key == "mtime":
            entry.mtime_ns = _nanoseconds(value, entry.name)
        elif key == "atime":
            entry.atime_ns = _nanoseconds(value, entry.name)


def _nanoseconds(text: str, name: str) -> int:
    whole, _, fraction = text.partition(".")
    sign = -1 if whole.startswith("-") else 1
    digits = whole.lstrip("+-")
    if not (digits + fraction).isdigit() or not (digits + fraction).isascii() or len(digits) > 18:
        raise InvalidParameter(f"entry {name!r}: invalid time {text!r}")
    return sign * (int(digits or 0) * 1_000_000_000 + int((fraction + "0" * 9)[:9]))


def _old_pieces(raw: bytes, name: str) -> list[tuple[int, int]]:
    pieces = []
    for at in range(0, len(raw), 24):
        if raw[at] == 0:
            break
        pieces.append((_number(raw[at : at + 12], name), _number(raw[at + 12 : at + 24], name)))
    return pieces


def _checked_pieces(pieces: list[tuple[int, int]], entry: Entry, available: int) -> list[tuple[int, int]]:
    """Pieces in order, within the file, and as long together as the data there is."""
    end = total = 0
    for offset, length in pieces:
        if offset < end or offset + length > entry.real_size:
            raise InvalidParameter(f"entry {entry.name!r}: invalid sparse map")
        end = offset + length
        total += length
    if total != available:
        raise InvalidParameter(f"entry {entry.name!r}: sparse map and data disagree")
    return [(offset, length) for offset, length in pieces if length]
