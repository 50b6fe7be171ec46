"""Compressed streams: recognising them, reading them within bounds, writing them reproducibly.

A reader hashes on the way: the digest of what was read (the blob's) and of what came out (the layer's diff id) are
both known at the end of one pass. Nothing is ever decompressed whole: at most `CHUNK` bytes come out at a time, so a
bomb costs its reader no memory and meets the limits of whoever consumes it.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import threading
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, cast

import zstandard

from sampan.archive.magic import detect
from sampan.errors import InvalidParameter, NotSupported

igzip_lib: Any
isal_zlib: Any
try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # no wheel for this processor: zlib does the same, at a third of the speed
    igzip_lib = isal_zlib = None

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 1 << 20
"""Bytes read, decompressed and hashed at a time."""

_AHEAD = 8
_MEMORY = 128 << 20
"""Window that a zstd or xz stream may ask for (zstd --long=27 is the most that Docker's own reader takes)."""

_DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, zstandard.ZstdError),
    *((igzip_lib.IsalError,) if igzip_lib is not None else ()),
)
"""What the decompressors raise; an OSError with an errno is the descriptor's instead."""


class _Decompressor(Protocol):
    """What bz2's, lzma's and igzip's decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def hexdigest(self) -> str: ...


class _NoDigest:
    """In the place of a hash that nobody will ask for: hashing is half the time of reading."""

    def update(self, data: bytes, /) -> None:
        return

    def hexdigest(self) -> str:
        raise ValueError("this stream was opened without digests")


class InputStream:
    """A possibly compressed stream, read from a descriptor. `read` gives decompressed bytes."""

    def __init__(
        self, fd: int, report: Callable[[dict[str, Any]], None] | None = None, *, digests: bool = True
    ) -> None:
        self.size = 0
        """Bytes read from the descriptor so far."""
        self.uncompressed_size = 0
        self._fd = fd
        self._report = report
        self._raw_hash: _Hasher = hashlib.sha256() if digests else _NoDigest()
        self._start = self._fill(6)
        self.compression = detect(self._start)
        self._hash = self._raw_hash if self.compression == "none" or not digests else hashlib.sha256()
        self._next = self._reader()

    def read(self) -> bytes:
        """The next decompressed bytes, 1 to `CHUNK` of them; empty at the end.

        Raises InvalidParameter for a damaged or truncated stream.
        """
        try:
            data = self._next()
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InvalidParameter(f"damaged {self.compression} stream: {error}") from error
        self.uncompressed_size += len(data)
        if self._hash is not self._raw_hash:
            self._hash.update(data)
        return data

    @property
    def digest(self) -> str:
        """Of what was read from the descriptor; final once `read` has returned nothing."""
        return f"sha256:{self._raw_hash.hexdigest()}"

    @property
    def diff_id(self) -> str:
        """Of what came out; final once `read` has returned nothing."""
        return f"sha256:{self._hash.hexdigest()}"

    def _reader(self) -> Callable[[], bytes]:
        match self.compression:
            case "none":
                return self._raw
            case "zstd":
                decompressor = zstandard.ZstdDecompressor(max_window_size=_MEMORY)
                reader = decompressor.stream_reader(cast("Any", _RawFile(self)), read_across_frames=True)
                return lambda: reader.read(CHUNK)
            case "gzip":
                return _Members(self._raw, _new_gzip, b"\x1f\x8b").read
            case "xz":
                return _Members(self._raw, _new_xz, b"\xfd7zXZ\x00").read
            case _:
                return _Members(self._raw, _new_bz2, b"BZh").read

    def _raw(self) -> bytes:
        if self._start:
            data, self._start = self._start, b""
            return data
        return self._fill(1)

    def _fill(self, least: int) -> bytes:
        data = b""
        while len(data) < least:
            more = os.read(self._fd, CHUNK)
            if not more:
                break
            data += more
        self._raw_hash.update(data)
        self.size += len(data)
        if self._report is not None and data:
            self._report({"current": self.size})
        return data


class _RawFile:
    """The file object that zstandard reads from. Raises EOFError when the stream ends within a frame."""

    def __init__(self, stream: InputStream) -> None:
        self._stream = stream
        self._rest = b""
        self._frames = _ZstdFrames()

    def read(self, count: int) -> bytes:
        if not self._rest:
            self._rest = self._stream._raw()
            self._frames.follow(self._rest)
            if not self._rest and not self._frames.complete:
                raise EOFError("unexpected end of stream")
        data, self._rest = self._rest[:count], self._rest[count:]
        return data


class _ZstdFrames:
    """Follows a zstd stream from frame to frame, to know at its end whether the last one is whole (RFC 8878, 3.1).

    The library does not tell its caller; without this, a stream cut between two files would seem whole.
    """

    def __init__(self) -> None:
        self._head = b""
        self._skip = 0
        self._in_frame = False
        self._checksum = 0

    @property
    def complete(self) -> bool:
        return not self._in_frame and not self._skip and not self._head

    def follow(self, data: bytes) -> None:
        data = self._head + data
        at = 0
        while True:
            step = min(self._skip, len(data) - at)
            self._skip -= step
            at += step
            if self._skip or at == len(data):
                self._head = b""
                return
            length = self._block(data, at) if self._in_frame else self._frame(data, at)
            if length == 0:  # the header itself is not whole yet
                self._head = data[at:]
                return
            self._skip = length

    def _frame(self, data: bytes, at: int) -> int:
        """Length of a frame's header, or of a whole skippable frame."""
        start = data[at : at + 18]
        if start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50:
            return 8 + int.from_bytes(start[4:8], "little") if len(start) >= 8 else 0
        if len(start) < 5:
            return 0
        self._in_frame = True
        self._checksum = 4 if start[4] & 4 else 0
        single, sizes, dictionary = start[4] >> 5 & 1, start[4] >> 6, start[4] & 3
        return 5 + (not single) + (0, 1, 2, 4)[dictionary] + (single, 2, 4, 8)[sizes]

    def _block(self, data: bytes, at: int) -> int:
        """Length of a block with its header, and of the frame's checksum after the last."""
        if len(data) - at < 3:
            return 0
        header = int.from_bytes(data[at : at + 3], "little")
        repeated = header >> 1 & 3 == 1
        length = 3 + (1 if repeated else header >> 3)
        if header & 1:
            self._in_frame = False
            length += self._checksum
        return length


def _new_gzip() -> _Decompressor:
    if igzip_lib is None:
        return _ZlibMember()
    decompressor: _Decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return decompressor


def _new_xz() -> _Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)


def _new_bz2() -> _Decompressor:
    return bz2.BZ2Decompressor()


class _ZlibMember:
    """zlib's gzip decompressor with the interface of the others."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._object.eof and not self._object.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max(max_length, 0))


class _Members:
    """A sequence of gzip members, xz or bz2 streams, read as one, each checked to its end."""

    def __init__(self, source: Callable[[], bytes], new: Callable[[], _Decompressor], magic: bytes) -> None:
        self._source = source
        self._new = new
        self._magic = magic
        self._member: _Decompressor | None = new()
        self._data = b""

    def read(self) -> bytes:
        while self._member is not None:
            if self._member.eof:
                self._next_member(self._member.unused_data)
                continue
            if self._member.needs_input and not self._data:
                self._data = self._source()
                if not self._data:
                    raise EOFError("unexpected end of stream")
            data, self._data = self._data, b""
            if out := self._member.decompress(data, CHUNK):
                return out
        return b""

    def _next_member(self, rest: bytes) -> None:
        while len(rest) < len(self._magic) and (more := self._source()):
            rest += more
        if rest.startswith(self._magic):
            self._member, self._data = self._new(), rest
            return
        self._member = None
        while rest:
            if rest.strip(b"\x00"):  # padding to a block's end is common, anything else is not ours
                raise ValueError("garbage after the end of the stream")
            rest = self._source()


class ReadAhead:
    """An input stream whose decompression and hashing run in a thread, `_AHEAD` chunks ahead of the reader.

    All of that is C code without the GIL, so the files are written meanwhile. `close` stops the thread.
    """

    def __init__(self, stream: InputStream) -> None:
        self._stream = stream
        self._chunks: deque[bytes | BaseException] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="decompress", daemon=True)
        self._thread.start()

    def read(self) -> bytes:
        """As `InputStream.read`."""
        with self._changed:
            while not self._chunks:
                self._changed.wait()
            chunk = self._chunks[0]
            if chunk and not isinstance(chunk, BaseException):
                self._chunks.popleft()  # an end or an error stays, for whoever reads on
            self._changed.notify()
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            chunk: bytes | BaseException
            try:
                chunk = self._stream.read()
            except Exception as error:
                chunk = error
            with self._changed:
                while len(self._chunks) >= _AHEAD and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                self._chunks.append(chunk)
                self._changed.notify()
            if not chunk or isinstance(chunk, BaseException):
                return


class OutputStream:
    """Bytes to a descriptor, compressed or not, with both digests. The same input gives the same output."""

    def __init__(self, fd: int, compression: str = "none", level: int | None = None) -> None:
        self.size = 0
        self.uncompressed_size = 0
        self.compression = compression
        self._fd = fd
        self._hash = hashlib.sha256()
        self._raw_hash = self._hash if compression == "none" else hashlib.sha256()
        self._compressor = _compressor(compression, level)
        self._pending = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Small pieces are gathered."""
        self._pending += data
        if len(self._pending) >= CHUNK:
            self._flush()

    def close(self) -> None:
        """Write what is pending and the end of the compressed stream; the descriptor stays open."""
        self._flush()
        if self._compressor is not None:
            self._emit(self._compressor.flush())

    @property
    def digest(self) -> str:
        """Of what was written to the descriptor, after `close`."""
        return f"sha256:{self._raw_hash.hexdigest()}"

    @property
    def diff_id(self) -> str:
        """Of what was written before compression, after `close`."""
        return f"sha256:{self._hash.hexdigest()}"

    def _flush(self) -> None:
        data, self._pending = self._pending, bytearray()
        self._hash.update(data)
        self.uncompressed_size += len(data)
        self._emit(data if self._compressor is None else self._compressor.compress(data))

    def _emit(self, data: bytes | bytearray) -> None:
        if self._raw_hash is not self._hash:
            self._raw_hash.update(data)
        self.size += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]


def _compressor(compression: str, level: int | None) -> Any:
    match compression:
        case "none":
            return None
        case "gzip":
            # wbits 31: a gzip header with no name and time 0.
            if isal_zlib is not None:
                return isal_zlib.compressobj(level=2 if level is None else min(level, 3), wbits=31)
            return zlib.compressobj(level=6 if level is None else level, wbits=31)
        case "zstd":
            return zstandard.ZstdCompressor(level=3 if level is None else level).compressobj()
        case _:
            raise NotSupported(f"compression {compression!r} can't be written; gzip, zstd and none can")
