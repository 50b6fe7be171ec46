"""The wire format of netlink, both ways."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.netlink.message import Request, attribute, attributes, nested, replies, text, u32

KINDS = st.integers(0, 0x3FFF)


@given(st.dictionaries(KINDS, st.binary(max_size=200), max_size=8))
def test_attributes_come_back_as_they_went(given_attributes: dict[int, bytes]) -> None:
    packed = b"".join(attribute(kind, value) for kind, value in given_attributes.items())
    assert len(packed) % 4 == 0
    assert attributes(packed) == given_attributes


@given(st.binary(max_size=300))
def test_hostile_bytes_raise_value_error_or_parse(data: bytes) -> None:
    for parse in (attributes, lambda bytes_: list(replies(bytes_))):
        try:
            parse(data)
        except ValueError:
            pass


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6))
def test_a_batch_splits_into_its_messages(payloads: list[bytes]) -> None:
    batch = b"".join(Request(16, 0, payload, "x").encode(number) for number, payload in enumerate(payloads))
    found = list(replies(batch))
    assert [reply.sequence for reply in found] == list(range(len(payloads)))
    assert [reply.payload for reply in found] == payloads


def test_a_message_longer_than_the_read_is_refused() -> None:
    with pytest.raises(ValueError, match="netlink message of 100 bytes"):
        list(replies(struct.pack("=IHHII", 100, 16, 0, 1, 0)))


def test_nesting_sets_the_flag_and_parses() -> None:
    packed = nested(18, text(1, "veth"), u32(2, 7))
    assert struct.unpack_from("=HH", packed)[1] == 18 | 0x8000
    inner = attributes(attributes(packed)[18])
    assert inner == {1: b"veth\0", 2: struct.pack("=I", 7)}
