"""Compressed streams: all kinds, both digests, damage, and bombs that must not swell."""

import bz2
import gzip
import hashlib
import lzma
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.archive.compression import CHUNK, InputStream, OutputStream, ReadAhead, _ZstdFrames
from sampan.errors import InvalidParameter

PAYLOAD = random.Random(1).randbytes(300_000) + b"tail" * 700_000

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": lambda data: gzip.compress(data, 6),
    "zstd": lambda data: zstandard.compress(data, 3),
    "xz": lambda data: lzma.compress(data, preset=1),
    "bz2": lambda data: bz2.compress(data, 1),
}


def _stream(path: Path, data: bytes) -> InputStream:
    path.write_bytes(data)
    return InputStream(os.open(path, os.O_RDONLY))


def _everything(stream: InputStream | ReadAhead) -> bytes:
    parts = []
    while data := stream.read():
        assert len(data) <= CHUNK
        parts.append(data)
    return b"".join(parts)


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("payload", [PAYLOAD, b"short", b""], ids=["long", "short", "empty"])
def test_reads_and_hashes(tmp_path: Path, kind: str, payload: bytes) -> None:
    blob = COMPRESSORS[kind](payload)
    stream = _stream(tmp_path / "blob", blob)
    assert stream.compression == kind
    assert _everything(stream) == payload
    assert stream.read() == b""
    assert stream.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert stream.diff_id == f"sha256:{hashlib.sha256(payload).hexdigest()}"
    assert (stream.size, stream.uncompressed_size) == (len(blob), len(payload))


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bz2"])
def test_concatenated_streams_are_one(tmp_path: Path, kind: str) -> None:
    blob = b"".join(COMPRESSORS[kind](part) for part in (b"one ", PAYLOAD, b" three"))
    assert _everything(_stream(tmp_path / "blob", blob)) == b"one " + PAYLOAD + b" three"


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bz2"])
@pytest.mark.parametrize("cut", [8, 30, -5, -1])
def test_a_cut_stream_is_an_error(tmp_path: Path, kind: str, cut: int) -> None:
    with pytest.raises(InvalidParameter, match=f"damaged {kind} stream"):
        _everything(_stream(tmp_path / "blob", COMPRESSORS[kind](PAYLOAD)[:cut]))


@pytest.mark.parametrize("kind", ["gzip", "xz", "bz2"])
def test_garbage_after_the_end_is_an_error_and_zeros_are_not(tmp_path: Path, kind: str) -> None:
    blob = COMPRESSORS[kind](b"payload")
    assert _everything(_stream(tmp_path / "zeros", blob + bytes(3000))) == b"payload"
    with pytest.raises(InvalidParameter):
        _everything(_stream(tmp_path / "garbage", blob + b"rubbish"))


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bz2"])
def test_flipped_bits_are_an_error(tmp_path: Path, kind: str) -> None:
    compress = COMPRESSORS[kind] if kind != "zstd" else zstandard.ZstdCompressor(write_checksum=True).compress
    blob = bytearray(compress(PAYLOAD))
    blob[len(blob) // 2] ^= 0xFF
    with pytest.raises(InvalidParameter):
        _everything(_stream(tmp_path / "blob", bytes(blob)))


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bz2"])
def test_a_bomb_comes_out_in_small_pieces(tmp_path: Path, kind: str) -> None:
    blob = COMPRESSORS[kind](bytes(200 << 20))
    stream = _stream(tmp_path / "blob", blob)
    tracemalloc.start()
    try:
        total = 0
        while data := stream.read():
            total += len(data)
        assert total == 200 << 20
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_reading_ahead_gives_the_same_and_ends(tmp_path: Path) -> None:
    ahead = ReadAhead(_stream(tmp_path / "blob", COMPRESSORS["gzip"](PAYLOAD * 5)))
    assert _everything(ahead) == PAYLOAD * 5
    assert ahead.read() == b""
    ahead.close()


def test_reading_ahead_passes_errors_on_and_can_be_left(tmp_path: Path) -> None:
    ahead = ReadAhead(_stream(tmp_path / "cut", COMPRESSORS["gzip"](PAYLOAD)[:-4]))
    with pytest.raises(InvalidParameter):
        _everything(ahead)
    ahead.close()
    left = ReadAhead(_stream(tmp_path / "long", bytes(40 << 20)))
    assert left.read()
    left.close()


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_what_is_written_reads_back_and_is_reproducible(tmp_path: Path, kind: str) -> None:
    digests = set()
    for attempt in ("a", "b"):
        fd = os.open(tmp_path / attempt, os.O_RDWR | os.O_CREAT)
        out = OutputStream(fd, kind)
        for at in range(0, len(PAYLOAD), 77_777):
            out.write(PAYLOAD[at : at + 77_777])
        out.close()
        os.lseek(fd, 0, os.SEEK_SET)
        back = InputStream(fd)
        assert _everything(back) == PAYLOAD
        assert (back.digest, back.diff_id, back.size) == (out.digest, out.diff_id, out.size)
        digests.add(out.digest)
        os.close(fd)
    assert len(digests) == 1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.binary(max_size=300) | st.integers(0, 400_000).map(bytes), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_a_zstd_stream_is_whole_only_at_the_end_of_a_frame(
    parts: list[bytes], checksum: bool, sized: bool, data: st.DataObject
) -> None:
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=checksum, write_content_size=sized)
    frames = [compressor.compress(part) for part in parts]
    frames.insert(1, b"\x53\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"12345")
    ends = {0} | {sum(map(len, frames[: index + 1])) for index in range(len(frames))}
    blob = b"".join(frames)
    cut = data.draw(st.integers(0, len(blob)) | st.sampled_from(sorted(ends)))
    tracker = _ZstdFrames()
    at = 0
    while at < cut:
        step = data.draw(st.integers(1, 40_000))
        tracker.follow(blob[at : min(at + step, cut)])
        at += step
    assert tracker.complete == (cut in ends)
