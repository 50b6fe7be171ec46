"""HTTP: the three ways a body ends, however the bytes arrive."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.client.http import Connection, quote
from sampan.errors import Unavailable


class Scripted:
    """A wire that gives the pieces it was made with and records what was sent."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.sent = b""
        self.closed = False

    def send(self, data: bytes) -> None:
        self.sent += data

    def receive(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def close_write(self) -> None: ...
    def is_stale(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of the given sizes."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in [*pieces, data] if piece]


pieces_of = st.lists(st.integers(1, 9), max_size=60)


@given(st.binary(max_size=200), pieces_of)
def test_length(body: bytes, sizes: list[int]) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    assert Connection(Scripted(*cut(raw, sizes))).request("GET", "/", {}, None).read() == body


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), pieces_of)
def test_chunked(chunks: list[bytes], sizes: list[int]) -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    finished = []
    response = Connection(Scripted(*cut(raw, sizes))).request("GET", "/", {}, None)
    response.on_finish = finished.append
    assert response.read() == b"".join(chunks)
    assert finished == [response.connection], "the connection can be used again"


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=5)), max_size=5), pieces_of)
def test_json_stream(values: list[dict[str, str]], sizes: list[int]) -> None:
    body = b"\n".join(json.dumps(value, ensure_ascii=False).encode() for value in values)
    raw = b"HTTP/1.1 200 OK\r\n\r\n" + body
    response = Connection(Scripted(*cut(raw, sizes))).request("GET", "/", {}, None)
    assert list(response.json_stream()) == values


def test_a_body_cut_short_is_an_error() -> None:
    response = Connection(Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")).request(
        "GET", "/", {}, None
    )
    with pytest.raises(Unavailable, match="6 bytes are missing"):
        response.read()


def test_an_upgraded_stream_keeps_what_came_with_the_head() -> None:
    wire = Scripted(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nearly", b"late")
    response = Connection(wire).request("POST", "/", {}, None)
    assert response.upgraded
    assert [response.connection.receive(), response.connection.receive()] == [b"early", b"late"]


def test_an_iterable_body_is_sent_chunked() -> None:
    wire = Scripted(b"HTTP/1.1 204 No Content\r\n\r\n")
    Connection(wire).request("POST", "/", {}, iter([b"ab", b"", b"c"])).read()
    assert wire.sent.endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")


def test_a_finished_response_does_not_close_its_connection() -> None:
    wire = Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    response = Connection(wire).request("GET", "/", {}, None)
    response.read()
    response.close()
    assert not wire.closed


@given(st.text(max_size=20))
def test_quote_is_undone_by_unquote(text: str) -> None:
    from urllib.parse import unquote

    assert unquote(quote(text)) == text
