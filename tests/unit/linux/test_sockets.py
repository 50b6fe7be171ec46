"""Messages with descriptors: whole, close-on-exec, or an error."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.linux import sockets

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(alphabet=st.characters(blacklist_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="abc"), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(_json)
def test_what_is_sent_arrives(value: object) -> None:
    ours, theirs = sockets.pair()
    with ours, theirs:
        sockets.send(ours, {"value": value})
        assert sockets.receive(theirs) == ({"value": value}, [])


def test_large_messages_and_undecodable_bytes(tmp_path: object) -> None:
    ours, theirs = sockets.pair()
    with ours, theirs:
        message = {"args": ["x" * 3_000_000, os.fsdecode(b"\xff\xfe")]}
        sockets.send(ours, message, [0, 1])
        received, descriptors = sockets.receive(theirs)
        assert received == message
        assert [os.fstat(fd).st_ino for fd in descriptors] == [os.fstat(fd).st_ino for fd in (0, 1)]
        assert not any(os.get_inheritable(fd) for fd in descriptors)
        for fd in descriptors:
            os.close(fd)
        ours.close()
        with pytest.raises(sockets.Disconnected):
            sockets.receive(theirs)
