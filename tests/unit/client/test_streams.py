"""Docker's framing of output."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.client.streams import STDERR, STDOUT, Demultiplexer, demultiplex
from sampan.errors import SystemFailure


def frame(stream: int, payload: bytes) -> bytes:
    return bytes((stream, 0, 0, 0)) + len(payload).to_bytes(4, "big") + payload


@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=30)), max_size=8),
    st.lists(st.integers(1, 7), max_size=40),
)
def test_frames_survive_any_cut(frames: list[tuple[int, bytes]], sizes: list[int]) -> None:
    raw = b"".join(frame(stream, payload) for stream, payload in frames)
    pieces = []
    for size in sizes:
        pieces.append(raw[:size])
        raw = raw[size:]
    output = {STDOUT: b"", STDERR: b""}
    for stream, payload in demultiplex([*pieces, raw], tty=False):
        output[stream] += payload
    for stream in output:
        assert output[stream] == b"".join(payload for found, payload in frames if found == stream)


def test_an_error_of_the_engine_is_raised() -> None:
    with pytest.raises(SystemFailure, match="disk on fire"):
        list(Demultiplexer().feed(frame(3, b"disk on fire")))
