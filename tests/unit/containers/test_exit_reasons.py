"""The one line about a container that failed at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sampan.containers.exit_reasons import reason_of
from sampan.logs.writer import open_writer
from sampan.runtime.interface import ExitStatus

if TYPE_CHECKING:
    from pathlib import Path


def status(code: int, *, oom: bool = False, reason: str = "") -> ExitStatus:
    return ExitStatus(code, 0, oom, reason)


@pytest.mark.parametrize(
    ("ended", "ran_for", "words"),
    [
        (status(137, oom=True), 10**12, "out of memory"),
        (status(0, oom=True), 1, ""),
        (status(139), 1, "segmentation fault"),
        (status(159), 1, "seccomp"),
        (status(139), 10**10, ""),
        (status(1), 1, ""),
        (status(126), 1, "may not be executed"),
        (status(137, reason="shim lost"), 10**12, "shim lost"),
    ],
)
def test_codes(ended: ExitStatus, ran_for: int, words: str) -> None:
    said = reason_of(ended, ran_for=ran_for, stopped=False, log=None)
    assert words in said and bool(words) == bool(said)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (
            b"prog: error while loading shared libraries: libz.so.1: cannot open shared object file: No such file\n",
            "the shared library libz.so.1 is not in the image",
        ),
        (
            b"Error loading shared library libgcc_s.so.1: No such file or directory (needed by /bin/x)\n",
            "the shared library libgcc_s.so.1 is not in the image",
        ),
        (b"sh: jq: not found\n", "jq was not found in the image"),
        (b"/run.sh: line 3: jq: command not found\n", "jq was not found in the image"),
        (b"nothing of interest\n", "a command or a shared library was not found"),
    ],
)
@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_the_log_says_what_was_missing(tmp_path: Path, driver: str, output: bytes, words: str) -> None:
    log = open_writer(driver, str(tmp_path / "log"), max_size=-1, max_file=1, compress=False, attrs=None)
    assert log is not None
    log.write("stderr", output)
    log.close()
    said = reason_of(status(127), ran_for=1, stopped=False, log=(driver, str(tmp_path / "log")))
    assert said.startswith(words)
