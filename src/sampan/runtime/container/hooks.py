"""Hooks: programs that run at fixed moments of a container's life. config.md "POSIX-platform Hooks"."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from sampan.runtime.interface import LaunchError

if TYPE_CHECKING:
    from sampan.oci.runtime import Hook

_OUTPUT_LIMIT = 64 << 10


def run_all(moment: str, hooks: list[Hook], state: bytes) -> None:
    """Run them in order, each with the state document on stdin. Raises LaunchError on the first that fails."""
    for index, hook in enumerate(hooks):
        try:
            _run(hook, state)
        except LaunchError as error:
            raise LaunchError(f"error running {moment} hook #{index}: {error}", "other") from error


def _run(hook: Hook, state: bytes) -> None:
    document = os.memfd_create("state", os.MFD_CLOEXEC)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(document, state)
        os.lseek(document, 0, os.SEEK_SET)
        pid = os.fork()
        if pid == 0:
            _execute(hook, document, writing)
        os.close(writing)
        writing = -1
        output, status = _supervise(pid, reading, hook.get("timeout"))
    finally:
        os.close(document)
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    if status is None:
        raise LaunchError(f"hook ran past specified timeout of {hook.get('timeout')}s", "other")
    if status != 0:
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        raise LaunchError(f"{how}, output: {output.decode(errors='replace').strip()}", "other")


def _execute(hook: Hook, document: int, output: int) -> None:
    try:
        os.dup2(document, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 4096)
        environment = dict(entry.partition("=")[::2] for entry in hook.get("env", []))
        os.execve(hook["path"], hook.get("args") or [hook["path"]], environment)
    except BaseException as error:
        os.write(2, f"{hook['path']}: {error}".encode())
    finally:
        os._exit(1)


def _supervise(pid: int, reading: int, timeout: int | None) -> tuple[bytes, int | None]:
    """(what it printed, exit code or minus the signal, None after the timeout)."""
    pidfd = os.pidfd_open(pid)
    deadline = None if timeout is None else time.monotonic() + timeout
    output = b""
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(reading, select.POLLIN)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = dict(poll.poll(left))
            if reading in ready:
                part = os.read(reading, 1 << 16)
                output = (output + part)[:_OUTPUT_LIMIT]
                if not part:
                    poll.unregister(reading)
            elif pidfd in ready:
                return output, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            elif not ready:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.waitpid(pid, 0)
                return output, None
    finally:
        os.close(pidfd)
