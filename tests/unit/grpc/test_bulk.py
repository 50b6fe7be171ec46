"""Messages that are split off what came, wherever it was cut."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidParameter
from sampan.grpc.bulk import Splitter


@given(st.lists(st.binary(max_size=40), max_size=12), st.lists(st.integers(0, 600), max_size=6))
def test_messages_come_out_as_they_went_in(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(struct.pack(">?I", False, len(each)) + each for each in messages)
    splitter, found, at = Splitter(), [], 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        found += splitter.messages(data[at:cut])
        at = cut
    assert found == messages


@pytest.mark.parametrize("head", [struct.pack(">?I", True, 1), struct.pack(">?I", False, 1 << 30)])
def test_what_cannot_be_a_message_is_refused(head: bytes) -> None:
    with pytest.raises(InvalidParameter):
        Splitter().messages(head + b"x")
