"""Remote log drivers: what arrives at a receiver, and which options are refused."""

from __future__ import annotations

import array
import asyncio
import gzip
import json
import os
import re
import socket
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from sampan.errors import InvalidParameter
from sampan.logs.remote.drivers import REMOTE
from sampan.logs.remote.interface import Line, Origin, PartOf
from sampan.logs.remote.journald import JournaldSink, field_name
from sampan.logs.shipping import Shipper
from sampan.logs.writer import open_writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ORIGIN = Origin(
    "c" * 64,
    "web",
    "sha256:abc",
    "busybox",
    "sh -c true",
    1_700_000_000_000_000_000,
    "host",
    "tag",
    {"k": "v"},
)
LINES = [
    Line("stdout", 1_700_000_000_123_456_789, b"hello"),
    Line("stderr", 1_700_000_000_123_456_789, b"oh", PartOf("id", 2, True)),
]


class Receiver:
    """A TCP server that keeps what it gets until it is closed."""

    def __init__(self, answer: bytes = b"") -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.data = b""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        connection, _ = self.server.accept()
        with connection:
            while data := connection.recv(65536):
                self.data += data

    def end(self) -> bytes:
        self._thread.join(10)
        self.server.close()
        return self.data


def send_tcp(driver: str, options: dict[str, str]) -> bytes:
    receiver = Receiver()
    sink = REMOTE[driver].sink({**options, f"{driver}-address": f"tcp://127.0.0.1:{receiver.port}"}, ORIGIN)
    sink.connect()
    sink.send(LINES)
    sink.close()
    return receiver.end()


def send_udp(
    driver: str, options: dict[str, str], lines: Sequence[Line] = LINES, count: int = 2
) -> list[bytes]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        address = f"udp://127.0.0.1:{receiver.getsockname()[1]}"
        sink = REMOTE[driver].sink({**options, f"{driver}-address": address}, ORIGIN)
        sink.connect()
        sink.send(lines)
        sink.close()
        return [receiver.recv(65536) for _ in range(count)]


def test_syslog_formats() -> None:
    pid = os.getpid()
    first, second = send_udp("syslog", {})
    assert re.fullmatch(rf"<30>\w{{3}} [ \d]\d \d\d:\d\d:\d\d tag\[{pid}\]: hello\n".encode(), first)
    assert second.startswith(b"<27>") and second.endswith(b": oh\n")
    first, _ = send_udp("syslog", {"syslog-format": "rfc3164", "syslog-facility": "local7"})
    assert re.fullmatch(rf"<190>\w{{3}} [ \d]\d \d\d:\d\d:\d\d host tag\[{pid}\]: hello\n".encode(), first)
    first, _ = send_udp("syslog", {"syslog-format": "rfc5424", "syslog-facility": "3"})
    assert re.fullmatch(rf"<30>1 [-\dT:]{{19}}(Z|[-+]\d\d:\d\d) host tag {pid} tag - hello\n".encode(), first)
    first, _ = send_udp("syslog", {"syslog-format": "rfc5424micro"})
    assert b".123456" in first
    assert send_tcp("syslog", {}).count(b"\n") == 2


def test_syslog_to_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(10)
        sink = REMOTE["syslog"].sink({"syslog-address": f"unixgram://{path}"}, ORIGIN)
        sink.connect()
        sink.send(LINES)
        assert receiver.recv(1000).endswith(b": hello\n")
        sink.close()


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_gelf(compression: str) -> None:
    first, second = send_udp("gelf", {"gelf-compression-type": compression})
    message = json.loads(gzip.decompress(first) if compression == "gzip" else first)
    assert message["version"] == "1.1" and message["short_message"] == "hello" and message["level"] == 6
    assert message["timestamp"] == 1700000000.123
    assert (message["_container_name"], message["_tag"], message["_k"]) == ("web", "tag", "v")
    assert json.loads(gzip.decompress(second) if compression == "gzip" else second)["level"] == 3
    assert [json.loads(part)["short_message"] for part in send_tcp("gelf", {}).split(b"\0")[:-1]] == [
        "hello",
        "oh",
    ]


def test_a_large_gelf_message_comes_in_chunks() -> None:
    long = Line("stdout", 1, b"x" * 5000)
    chunks = send_udp("gelf", {"gelf-compression-type": "none"}, [long], count=4)
    assert {chunk[:2] for chunk in chunks} == {b"\x1e\x0f"} and len({chunk[2:10] for chunk in chunks}) == 1
    whole = b"".join(chunk[12:] for chunk in sorted(chunks, key=lambda chunk: chunk[10]))
    assert json.loads(whole)["short_message"] == "x" * 5000


def test_fluentd() -> None:
    data = send_tcp("fluentd", {})
    first = msgspec.msgpack.encode(
        [
            "tag",
            1_700_000_000,
            {
                "container_id": "c" * 64,
                "container_name": "/web",
                "source": "stdout",
                "log": "hello",
                "k": "v",
            },
            {},
        ]
    )
    assert data.startswith(first)
    tag, _, record, _ = msgspec.msgpack.decode(data[len(first) :])
    assert (tag, record["partial_id"], record["partial_ordinal"], record["partial_last"]) == (
        "tag",
        "id",
        "2",
        "true",
    )
    precise = send_tcp("fluentd", {"fluentd-sub-second-precision": "true"})
    assert (
        msgspec.msgpack.Ext(0, (1_700_000_000).to_bytes(4, "big") + (123_456_789).to_bytes(4, "big")).data
        in precise
    )


def test_journald(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(10)
        sink = JournaldSink({}, ORIGIN, path)
        sink.connect()
        sink.send([*LINES, Line("stdout", 1, b"two\nlines")])
        entries = [receiver.recv(65536) for _ in range(3)]
        assert b"\nPRIORITY=6\n" in entries[0] and entries[0].endswith(b"MESSAGE=hello\n")
        assert b"\nPRIORITY=3\n" in entries[1] and b"CONTAINER_PARTIAL_LAST=true\n" in entries[1]
        assert entries[2].endswith(b"MESSAGE\n" + (9).to_bytes(8, "little") + b"two\nlines\n")
        assert b"CONTAINER_NAME=web\n" in entries[0] and b"\nK=v\n" in entries[0]
        large = b"y" * 1_000_000
        sending = threading.Thread(target=sink.send, args=([Line("stdout", 1, large)],))
        sending.start()
        _, ancillary, _, _ = receiver.recvmsg(1, socket.CMSG_SPACE(4))
        sending.join(10)
        descriptor = array.array("i", ancillary[0][2][:4])[0]
        assert os.pread(descriptor, 2_000_000, 0).endswith(b"MESSAGE=" + large + b"\n")
        os.close(descriptor)
        sink.close()


def test_names_of_journal_fields() -> None:
    assert field_name("com.example/Name-1") == "COM_EXAMPLE_NAME_1"
    assert field_name("_private") == "PRIVATE"


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("syslog", {"syslog-address": "http://x"}, "unsupported scheme: 'http'"),
        ("syslog", {"syslog-address": "unix:///no/such"}, "stat /no/such: no such file or directory"),
        ("syslog", {"syslog-facility": "24"}, "invalid syslog facility"),
        ("syslog", {"syslog-format": "x"}, "Invalid syslog format"),
        ("gelf", {}, "gelf-address is a required parameter"),
        ("gelf", {"gelf-address": "unix:///x"}, "gelf: endpoint needs to be TCP or UDP"),
        ("gelf", {"gelf-address": "udp://x"}, "gelf: please provide gelf-address as proto://host:port"),
        ("gelf", {"gelf-address": "tcp://x:1", "gelf-compression-type": "gzip"}, "only supported on UDP"),
        ("gelf", {"gelf-address": "udp://x:1", "gelf-compression-level": "10"}, 'unknown value "10"'),
        ("gelf", {"gelf-address": "udp://x:1", "gelf-tcp-max-reconnect": "1"}, "is only valid for TCP"),
        ("fluentd", {"fluentd-address": "udp://x"}, "unsupported scheme: 'udp'"),
        ("fluentd", {"fluentd-address": "unix://"}, "path is empty"),
        ("fluentd", {"fluentd-async": "maybe"}, "strconv.ParseBool"),
        ("fluentd", {"fluentd-max-retries": "-1"}, "strconv.ParseUint"),
        ("fluentd", {"fluentd-async-reconnect-interval": "1ms"}, "must be between 100ms and 10s"),
    ],
)
def test_mistakes(driver: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidParameter, match=re.escape(words)):
        REMOTE[driver].check(options)


class Memory:
    """A sink that refuses now and then."""

    def __init__(self, refusals: int) -> None:
        self.lines: list[Line] = []
        self.connections = 0
        self._refusals = refusals

    def connect(self) -> None:
        self.connections += 1

    def send(self, lines: Sequence[Line]) -> None:
        if self._refusals:
            self._refusals -= 1
            raise ConnectionResetError(104, "connection reset by peer")
        self.lines += lines

    def close(self) -> None:
        return


def test_a_shipper_goes_on_where_the_one_before_stopped(tmp_path: Path) -> None:
    """Also over rotations, and when its peer was away for a moment."""
    (tmp_path / "logs").mkdir()
    path, position = tmp_path / "logs" / "log", tmp_path / "position"
    log = open_writer("local", str(path), max_size=2000, max_file=50, compress=True, attrs=None)
    assert log is not None

    async def ship(sink: Memory, begin: int, end: int) -> None:
        shipper = Shipper("test", "local", str(path), position, sink)
        await shipper.connect()
        shipper.begin()
        for number in range(begin, end):
            log.write("stdout", b"%d\n" % number)
            if number % 50 == 0:
                await asyncio.sleep(0)
        await shipper.finish()

    sinks = [Memory(0), Memory(1), Memory(0)]
    for number, sink in enumerate(sinks):
        asyncio.run(ship(sink, number * 200, number * 200 + 200))
    log.write("stdout", b"z" * 40_000 + b"\n")
    last = Memory(0)
    asyncio.run(ship(last, 0, 0))
    log.close()
    # Nothing is missing and nothing out of order; the batch at which a shipper stopped may come twice.
    assert sorted({int(line.text) for sink in sinks for line in sink.lines}) == list(range(600))
    for sink in sinks:
        assert [int(line.text) for line in sink.lines] == sorted(int(line.text) for line in sink.lines)
    assert sinks[1].connections == 2
    parts = [line.part for line in last.lines]
    assert [(part.ordinal, part.last) for part in parts if part] == [(1, False), (2, False), (3, True)]
    assert len({part.id for part in parts if part}) == 1
