"""One line about a program that ended badly at once, or was killed: what is behind its exit code."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from sampan.logs.entries import FORMATS
from sampan.logs.files import open_all

if TYPE_CHECKING:
    from sampan.runtime.interface import ExitStatus

AT_ONCE = 1_000_000_000
"""A program that fails within this many nanoseconds of its start deserves a reason."""

_OUT_OF_MEMORY = "killed by the kernel: out of memory (see --memory)"
_SIGNALS = {
    4: "illegal instruction: it is built for a newer processor than this one",
    6: "it aborted (SIGABRT)",
    7: "bus error (SIGBUS): /dev/shm may be full (see --shm-size)",
    11: "segmentation fault (SIGSEGV)",
    31: "a system call was refused by the seccomp profile (SIGSYS; see --security-opt seccomp)",
}
_LAST_ENTRIES = 20
# The words of glibc's and of musl's loader.
_LIBRARY = re.compile(
    r"error while loading shared libraries: ([^\s:]+): cannot open"
    r"|Error loading shared library ([^\s:]+):"
)
_NOT_FOUND = re.compile(r"(?:^|: )(?:line \d+: )?([^\s:]+): (?:command )?not found\s*$", re.MULTILINE)


def reason_of(status: ExitStatus, *, ran_for: int, stopped: bool, log: tuple[str, str] | None) -> str:
    """The line; empty when the exit code says all there is. `log`: driver and path of the container's log, if it has one.

    Reads the end of the log: not for the event loop.
    """
    if status.reason:
        return status.reason
    if status.oom_killed and status.code != 0:
        return _OUT_OF_MEMORY
    if status.code == 0 or stopped or ran_for >= AT_ONCE:
        return ""
    if status.code > 128:
        return _SIGNALS.get(status.code - 128, "")
    if status.code == 126:
        return "a command was found but may not be executed (exit code 126)"
    if status.code == 127:
        return _missing(last_lines(*log) if log else "")
    return ""


def _missing(text: str) -> str:
    if found := _LIBRARY.search(text):
        return f"the shared library {found[1] or found[2]} is not in the image"
    if found := _NOT_FOUND.search(text):
        return f"{found[1]} was not found in the image"
    return "a command or a shared library was not found (exit code 127)"


def last_lines(driver: str, path: str) -> str:
    """The end of a container's log, for a look at what it complained about; empty when there is none."""
    form = FORMATS.get(driver)
    opened = open_all(path) if form is not None else []
    try:
        if form is None or not opened or opened[-1].compressed:
            return ""
        descriptor = opened[-1].descriptor
        size = os.fstat(descriptor).st_size
        offset, _ = form.tail(descriptor, size, _LAST_ENTRIES)
        lines = [
            line for run in form.decode(os.pread(descriptor, size - offset, offset)) for line in run.lines
        ]
        return b"".join(lines).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        for file in opened:
            os.close(file.descriptor)
