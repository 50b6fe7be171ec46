"""Logs, written and read back: splitting, formats, rotation, tail, follow."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.logs.entries import FORMATS, Run
from sampan.logs.jsonfile import JsonEncoder, escape, timestamp
from sampan.logs.lines import PIECE, LineSplitter
from sampan.logs.present import View, render
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


def frames(data: bytes) -> list[bytes]:
    """The payloads of a client's bytes."""
    lines = []
    while data:
        length = int.from_bytes(data[4:8], "big")
        lines.append(data[8 : 8 + length])
        assert len(lines[-1]) == length
        data = data[8 + length :]
    return lines


async def lines_of(driver: str, path: Path, view: View = View(framed=True), **how: object) -> list[bytes]:  # noqa: B008
    reading = LogReader(driver, str(path)).read(view, **how)  # type: ignore[arg-type]
    return frames(b"".join([data async for data in reading]))


def read(driver: str, path: Path, view: View = View(framed=True), **how: object) -> list[bytes]:  # noqa: B008
    return asyncio.run(lines_of(driver, path, view, **how))


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
        following = asyncio.create_task(lines_of(driver, tmp_path / "log", follow=True, ended=ended))
        for number in range(200):
            log.write("stdout", b"line %d\n" % number)
            if number % 10 == 0:
                await asyncio.sleep(0)
        log.close()
        ended.set()
        return await asyncio.wait_for(following, 10)

    assert asyncio.run(scenario()) == [b"before\n", *[b"line %d\n" % n for n in range(200)]]


def test_since_and_until(tmp_path: Path) -> None:
    encoder = JsonEncoder({})
    data = b"".join(encoder.encode("stdout", b"%d\n" % n, n * 10**9, partial=False) for n in range(10))
    (tmp_path / "log").write_bytes(data)
    assert read("json-file", tmp_path / "log", View(framed=True, since_ns=3 * 10**9, until_ns=5 * 10**9)) == [
        b"3\n",
        b"4\n",
        b"5\n",
    ]


def test_foreign_and_broken_json_lines(tmp_path: Path) -> None:
    good = b'{"time":"2023-11-14T22:13:20Z","log":"other order\\n","stream":"stdout"}\n'
    entries = FORMATS["json-file"].decode(b"garbage\n" + good + b'{"log":"x"}\n')
    assert [run.lines for run in entries] == [[b"other order\n"]]


def test_rendering() -> None:
    run = Run("stderr", 1_700_000_000_000_000_001, b'{"b":"2 3","a":"1"}', [b"hi\n", b"ho\n"])
    assert frames(render([run], View(framed=True))) == [b"hi\n", b"ho\n"]
    assert render([run], View(framed=True)).startswith(b"\x02\0\0\0\0\0\0\x03hi\n")
    plain = render([run], View(framed=False, timestamps=True, details=True))
    prefix = b"2023-11-14T22:13:20.000000001Z a=1,b=2+3 "
    assert plain == prefix + b"hi\n" + prefix + b"ho\n"
    assert frames(render([run], View(framed=True, timestamps=True, details=True))) == [
        prefix + b"hi\n",
        prefix + b"ho\n",
    ]
    assert render([run], View(framed=False, stderr=False)) == b""


LINES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"\\",
            b"\\n",
            b"a\\",
            b'"',
            b'","stream":"stdout","time":"x"}',
            b"\r",
            b"\x00",
            b"\xe2\x80\xa8",
            b"",
        ]
    ),
    st.integers(PIECE - 2, PIECE + 2).map(lambda length: b"x" * length),
)


@settings(max_examples=150, deadline=None)
@given(
    writes=st.lists(
        st.tuples(st.sampled_from(["stdout", "stderr"]), st.lists(LINES, max_size=12)), max_size=6
    ),
    attrs=st.sampled_from([{}, {"tag": 'a","stream":"b'}]),
    driver=st.sampled_from(DRIVERS),
)
def test_runs_are_the_lines_one_by_one(
    writes: list[tuple[str, list[bytes]]],
    attrs: dict[str, str],
    driver: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What is decoded by the run is what a plain JSON reader finds, and what was written."""
    path = tmp_path_factory.mktemp("log") / "log"
    log = opened(driver, path, attrs=attrs)
    for stream, texts in writes:
        log.write(stream, b"".join(text + b"\n" for text in texts))
    log.close()
    written: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    for run in FORMATS[driver].decode(path.read_bytes()):
        written[run.stream] += b"".join(run.lines)
    for stream in written:
        wanted = b"".join(t + b"\n" for s, texts in writes if s == stream for t in texts)
        if driver == "json-file":
            wanted = wanted.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace")
            wanted = re.sub(rb"\\udc[89a-f][0-9a-f]", "\ufffd".encode(), wanted)
        assert written[stream] == wanted
    if driver == "json-file":
        plain = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert [line for run in FORMATS[driver].decode(path.read_bytes()) for line in run.lines] == [
            entry["log"].encode() for entry in plain
        ]
        if found := FORMATS[driver].texts(path.read_bytes()):
            assert found == ([entry["stream"] for entry in plain], [entry["log"].encode() for entry in plain])


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("compress", [False, True])
def test_nothing_is_missed_or_read_twice_while_files_rotate(
    driver: str, compress: bool, tmp_path: Path
) -> None:
    """A thread floods the log while readers begin at any moment: each sees a gapless row up to its end."""
    count = 3000
    log = opened(driver, tmp_path / "log", max_size=20_000, max_file=1000, compress=compress)

    def flood() -> None:
        for number in range(count):
            log.write("stdout", b"%d\n" % number)
        log.close()

    async def scenario() -> None:
        ended = asyncio.Event()
        flooding = asyncio.ensure_future(asyncio.to_thread(flood))
        followers = []
        while not flooding.done():
            if len(followers) < 20:
                following = lines_of(driver, tmp_path / "log", follow=True, ended=ended)
                followers.append(asyncio.ensure_future(following))
            seen = await lines_of(driver, tmp_path / "log")
            assert seen == [b"%d\n" % number for number in range(len(seen))]
            recent = await lines_of(driver, tmp_path / "log", tail=7)
            assert len(recent) <= 7
            assert (
                [int(line) for line in recent] == list(range(int(recent[0]), int(recent[0]) + len(recent)))
                if recent
                else True
            )
        await flooding
        ended.set()
        for follower in followers:
            assert await follower == [b"%d\n" % number for number in range(count)]

    asyncio.run(asyncio.wait_for(scenario(), 120))


@pytest.mark.parametrize("compress", [False, True])
def test_a_slow_follower_catches_up_over_rotations(compress: bool, tmp_path: Path) -> None:
    """While it did not look, the file it reads was rotated away several times, and compressed."""

    async def scenario() -> list[bytes]:
        log = opened("json-file", tmp_path / "log", max_size=2000, max_file=100, compress=compress)
        log.write("stdout", b"0\n")
        ended = asyncio.Event()
        reading = LogReader("json-file", str(tmp_path / "log")).read(
            View(framed=True), follow=True, ended=ended
        )
        first = await anext(reading)
        for number in range(1, 300):
            log.write("stdout", b"%d\n" % number)
        log.close()
        ended.set()
        return frames(first + b"".join([data async for data in reading]))

    assert asyncio.run(scenario()) == [b"%d\n" % number for number in range(300)]


def test_who_reads_the_only_file_keeps_it_when_it_is_begun_anew(tmp_path: Path) -> None:
    async def scenario() -> list[bytes]:
        log = opened("json-file", tmp_path / "log", max_size=1000, max_file=1)
        log.write("stdout", b"first\n")
        ended = asyncio.Event()
        reading = LogReader("json-file", str(tmp_path / "log")).read(
            View(framed=True), follow=True, ended=ended
        )
        seen = await anext(reading)
        log.write("stdout", b"x" * 900 + b"\n")
        log.write("stdout", b"in the next file\n")
        log.close()
        ended.set()
        return frames(seen + b"".join([data async for data in reading]))

    assert asyncio.run(scenario()) == [b"first\n", b"x" * 900 + b"\n", b"in the next file\n"]
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_many_followers_share_what_tells_them_of_changes(tmp_path: Path) -> None:
    """A user has 128 inotify queues, for all engines on the machine."""

    async def scenario() -> None:
        log = opened("json-file", tmp_path / "log")
        log.write("stdout", b"first\n")
        ended = asyncio.Event()
        readers = [
            LogReader("json-file", str(tmp_path / "log")).read(View(framed=False), follow=True, ended=ended)
            for _ in range(150)
        ]
        assert {await anext(reader) for reader in readers} == {b"first\n"}
        queues = [name for name in os.listdir("/proc/self/fd") if "inotify" in _target(name)]
        assert len(queues) == 1
        waiting = [asyncio.ensure_future(anext(reader)) for reader in readers]
        log.write("stdout", b"second\n")
        assert set(await asyncio.gather(*waiting)) == {b"second\n"}
        for reader in readers:
            await reader.aclose()  # type: ignore[attr-defined]
        assert not [name for name in os.listdir("/proc/self/fd") if "inotify" in _target(name)]
        log.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""
