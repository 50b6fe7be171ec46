"""What a log does when there is no room: a limit on the size of files stands for the disk."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sampan.logs.rotation import RotatingFile, compress
from sampan.logs.writer import open_writer


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file gets longer meanwhile; a write over the limit is cut, the next one fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_an_entry_that_does_not_fit_leaves_nothing_of_itself(driver: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = open_writer(driver, str(path), max_size=-1, max_file=1, compress=False, attrs={})
    assert log is not None
    log.write("stdout", b"before\n")
    size = path.stat().st_size
    with room(size + 50), pytest.raises(OSError, match="too large"):
        log.write("stdout", b"lost" * 100 + b"\n")
    assert path.stat().st_size == size
    log.write("stdout", b"after\n")
    log.close()
    if driver == "json-file":
        assert [json.loads(line)["log"] for line in path.read_text().splitlines()] == ["before\n", "after\n"]


def test_a_log_goes_on_in_its_file_when_there_can_be_no_other(tmp_path: Path) -> None:
    path = tmp_path / "log"
    (tmp_path / "log.next").mkdir()  # in the way, as the lack of an inode would be
    file = RotatingFile(str(path), max_size=4, max_file=3, compress=False)
    for _ in range(3):
        file.append(b"entry\n")
    assert path.read_bytes() == b"entry\n" * 3
    (tmp_path / "log.next").rmdir()
    file.append(b"next\n")
    file.close()
    assert path.read_bytes() == b"next\n"
    assert (tmp_path / "log.1").read_bytes() == b"entry\n" * 3


def test_a_compression_without_room_leaves_the_plain_file(tmp_path: Path) -> None:
    path = tmp_path / "log.1"
    path.write_bytes(os.urandom(1 << 16))
    with room(1 << 12), pytest.raises(OSError, match="too large"):
        compress(str(path))
    assert os.listdir(tmp_path) == ["log.1"]
