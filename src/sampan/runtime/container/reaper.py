"""`--init`: a small init as the container's pid 1, with the program as its child.

A pure-Python package ships no static binary to put into the container, and needs none: the stub simply does not
execute the program but forks it, and stays: stripped of descriptors and privileges like the program itself, and
not dumpable, so that nobody in the container can look into it. As tini does, it passes signals on to the program,
reaps what is orphaned, and ends as the program ends.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NoReturn

from sampan.linux import process
from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT_TO_ITSELF = {signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU}


def run_beneath(execute: Callable[[], LaunchError]) -> LaunchError:
    """Fork, `execute` in the child, and be its init for good; only a failure to execute returns."""
    told, tell = os.pipe2(os.O_CLOEXEC)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child == 0:
        _execute_in_child(execute, tell)
    os.close(tell)
    with open(told, "rb") as pipe:
        failure = pipe.read()
    if failure:
        os.waitpid(child, 0)
        kind, _, message = failure.decode("utf-8", "surrogateescape").partition("\0")
        return LaunchError(message, kind)  # type: ignore[arg-type]
    # Its streams are the program's alone; and whoever waits for the start learns it by our channel's end.
    process.close_range(0)
    _supervise(child)


def _execute_in_child(execute: Callable[[], LaunchError], tell: int) -> NoReturn:
    try:
        if os.isatty(0):
            # The program is the terminal's foreground job; its init must not be stopped with it.
            os.setpgid(0, 0)
            os.tcsetpgrp(0, os.getpid())
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        error = execute()
        os.write(tell, f"{error.kind}\0{error}".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(1)


def _supervise(child: int) -> NoReturn:
    while True:
        number = signal.sigwait(signal.valid_signals())
        if number not in _KEPT_TO_ITSELF:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
