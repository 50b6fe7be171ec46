"""Logs, written and read back: splitting, formats, rotation, tail, follow."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.logs.entries import FORMATS, Entry
from sampan.logs.jsonfile import JsonEncoder, escape, timestamp
from sampan.logs.lines import PIECE, LineSplitter
from sampan.logs.present import render
from sampan.logs.reader import LogReader
from sampan.logs.writer import LogWriter, open_writer

if TYPE_CHECKING:
    from pathlib import Path

DRIVERS = ["json-file", "local"]


def opened(driver: str, path: Path, **options: object) -> LogWriter:
    settings = {"max_size": -1, "max_file": 1, "compress": False, "attrs": None} | options
    writer = open_writer(driver, str(path), **settings)  # type: ignore[arg-type]
    assert writer is not None
    return writer


async def entries_of(driver: str, path: Path, **how: object) -> list[Entry]:
    return [e async for batch in LogReader(driver, str(path)).read(**how) for e in batch]  # type: ignore[arg-type]


def read(driver: str, path: Path, **how: object) -> list[bytes]:
    return [entry.line for entry in asyncio.run(entries_of(driver, path, **how))]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=3 * PIECE), max_size=6))
def test_splitting_loses_nothing_and_cuts_at_16_kib(chunks: list[bytes]) -> None:
    splitter = LineSplitter()
    blocks = [block for chunk in chunks for block in splitter.feed(chunk)] + splitter.finish()
    assert b"".join(block.data for block in blocks) == b"".join(chunks)
    for block in blocks[:-1]:
        assert len(block.data) == PIECE if block.partial else block.data.endswith(b"\n")
    for block in blocks:
        assert all(len(line) < PIECE for line in block.data.split(b"\n")) or block.partial


@pytest.mark.parametrize(("length", "pieces"), [(PIECE - 1, 1), (PIECE, 2), (PIECE + 1, 2), (2 * PIECE, 3)])
def test_a_line_of_16_kib_and_its_newline_are_two_pieces(length: int, pieces: int) -> None:
    splitter = LineSplitter()
    assert len(splitter.feed(b"x" * length + b"\n")) == pieces


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"])))
def test_escaping_is_json(text: str) -> None:
    assert json.loads(b'"' + escape(text.encode()).replace(b"\n", b"\\n") + b'"') == text


def test_escaping_as_gos_encoder() -> None:
    assert escape(b'<a & "b">\t\\\xff\xe2\x80\xa8') == rb"\u003ca \u0026 \"b\"\u003e\u0009\\\ufffd\u2028"


def test_trailing_zeros_of_a_time_are_dropped() -> None:
    assert timestamp(1_700_000_000_120_000_000) == "2023-11-14T22:13:20.12Z"
    assert timestamp(1_700_000_000_000_000_000) == "2023-11-14T22:13:20Z"


def test_json_line_is_dockerds() -> None:
    line = JsonEncoder({"tag": "<x>"}).encode("stderr", b"a\nb\n", 1_700_000_000_000_000_001, partial=False)
    assert line.splitlines()[0] == (
        b'{"log":"a\\n","stream":"stderr","attrs":{"tag":"\\u003cx\\u003e"},'
        b'"time":"2023-11-14T22:13:20.000000001Z"}'
    )


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_is_written_is_read(driver: str, tmp_path: Path) -> None:
    log = opened(driver, tmp_path / "log")
    text = b'first\n\nsecond "quoted" \x1b[0m\n' + b"y" * (PIECE + 5) + b"\nunfinished"
    for at in range(0, len(text), 7):
        log.write("stdout", text[at : at + 7])
    log.close()
    lines = read(driver, tmp_path / "log")
    assert b"".join(lines) == text
    assert [len(line) for line in lines[-3:]] == [PIECE, 6, len(b"unfinished")]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("compress", [False, True])
def test_tail_reaches_back_over_rotations(driver: str, compress: bool, tmp_path: Path) -> None:
    log = opened(driver, tmp_path / "log", max_size=2000, max_file=4, compress=compress)
    for number in range(300):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    assert len(list(tmp_path.iterdir())) == 4
    everything = read(driver, tmp_path / "log")
    assert everything[-1] == b"line 299\n"
    assert 40 < len(everything) < 300
    assert read(driver, tmp_path / "log", tail=30) == everything[-30:]
    assert read(driver, tmp_path / "log", tail=0) == []
    assert read(driver, tmp_path / "log", tail=1000) == everything


def test_one_file_only_is_truncated(tmp_path: Path) -> None:
    log = opened("json-file", tmp_path / "log", max_size=500, max_file=1)
    for number in range(50):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert (tmp_path / "log").stat().st_size < 600


@pytest.mark.parametrize("driver", DRIVERS)
def test_follow_sees_every_line_across_rotations_and_ends(driver: str, tmp_path: Path) -> None:
    async def scenario() -> list[bytes]:
        log = opened(driver, tmp_path / "log", max_size=1500, max_file=50)
        log.write("stdout", b"before\n")
        ended = asyncio.Event()
        following = asyncio.create_task(entries_of(driver, tmp_path / "log", follow=True, ended=ended))
        for number in range(200):
            log.write("stdout", b"line %d\n" % number)
            if number % 10 == 0:
                await asyncio.sleep(0)
        log.close()
        ended.set()
        return [entry.line for entry in await asyncio.wait_for(following, 10)]

    assert asyncio.run(scenario()) == [b"before\n", *[b"line %d\n" % n for n in range(200)]]


def test_since_and_until(tmp_path: Path) -> None:
    encoder = JsonEncoder({})
    data = b"".join(encoder.encode("stdout", b"%d\n" % n, n * 10**9, partial=False) for n in range(10))
    (tmp_path / "log").write_bytes(data)
    assert read("json-file", tmp_path / "log", since_ns=3 * 10**9, until_ns=5 * 10**9) == [
        b"3\n",
        b"4\n",
        b"5\n",
    ]


def test_foreign_and_broken_json_lines(tmp_path: Path) -> None:
    good = b'{"time":"2023-11-14T22:13:20Z","log":"other order\\n","stream":"stdout"}\n'
    entries = FORMATS["json-file"].decode(b"garbage\n" + good + b'{"log":"x"}\n')
    assert [entry.line for entry in entries] == [b"other order\n"]


def test_rendering() -> None:
    entry = Entry("stderr", 1_700_000_000_000_000_001, b"hi\n", b'{"b":"2 3","a":"1"}')
    assert render([entry], framed=True) == b"\x02\0\0\0\0\0\0\x03hi\n"
    plain = render([entry], framed=False, timestamps=True, details=True)
    assert plain == b"2023-11-14T22:13:20.000000001Z a=1,b=2+3 hi\n"
    assert render([entry], framed=False, stderr=False) == b""
