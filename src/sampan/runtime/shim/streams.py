"""Pipes and terminals between a process and its shim."""

from __future__ import annotations

import fcntl
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.runtime.interface import Stdio

PIPE_SIZE = 256 * 1024
"""Of output pipes: fewer wake-ups of the shim when a container floods its log. The default is 64 KiB."""


class Streams:
    """One process's standard streams: the process's ends until `close_theirs`, and ours.

    With a terminal there are no ends to give: the master comes from the process's own devpts, by `set_console`.
    """

    def __init__(self, stdio: Stdio, wanted: tuple[bool, bool, bool] = (True, True, True)) -> None:
        """`wanted`: which of (stdin, stdout, stderr) are piped; the others are /dev/null."""
        self.tty = stdio["tty"]
        self.once = stdio["stdin_once"]
        self.input: int | None = None
        """Our end of its stdin, non-blocking; with a terminal the master."""
        self.outputs: dict[str, int] = {}
        """stream → our end, non-blocking."""
        self.theirs: tuple[int, int, int] | None = None
        self._open_input = stdio["open_stdin"] and wanted[0]
        if not self.tty:
            self._make_pipes(wanted)

    def _make_pipes(self, wanted: tuple[bool, bool, bool]) -> None:
        made: list[int] = []
        try:
            if self._open_input:
                end, self.input = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(self.input, False)
                made.append(end)
            else:
                made.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
            for stream, piped in (("stdout", wanted[1]), ("stderr", wanted[2])):
                if not piped:
                    made.append(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC))
                    continue
                ours, end = os.pipe2(os.O_CLOEXEC)
                self.outputs[stream] = ours
                os.set_blocking(ours, False)
                _enlarge(ours)
                made.append(end)
        except BaseException:
            for descriptor in made:
                os.close(descriptor)
            self.close()
            raise
        self.theirs = (made[0], made[1], made[2])

    def give_to(self, uid: int, gid: int) -> None:
        """Make another user of the host's the owner of the process's ends: root of its user namespace, who could not else open
        /dev/stdout anew."""
        for descriptor in self.theirs or ():
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.fchown(descriptor, uid, gid)

    def set_console(self, master: int) -> None:
        """Take the terminal's master side."""
        os.set_blocking(master, False)
        self.outputs = {"stdout": master}
        # A descriptor of its own: epoll watches the one for output and the other for room for input.
        self.input = fcntl.fcntl(master, fcntl.F_DUPFD_CLOEXEC, 3) if self._open_input else None

    @property
    def console(self) -> int | None:
        """The terminal's master, if there is one and it is open."""
        return self.outputs.get("stdout") if self.tty else None

    def close_theirs(self) -> None:
        """The process has its ends: ours must be the only ones left, else end of file never comes."""
        if self.theirs is not None:
            for descriptor in self.theirs:
                os.close(descriptor)
            self.theirs = None

    def close_input(self) -> None:
        """End of file for the process (not for one with a terminal, which lives on)."""
        if self.input is not None:
            os.close(self.input)
            self.input = None

    def close_output(self, stream: str) -> None:
        os.close(self.outputs.pop(stream))

    def close(self) -> None:
        self.close_theirs()
        self.close_input()
        for stream in list(self.outputs):
            self.close_output(stream)


def _enlarge(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except PermissionError:  # beyond an ordinary user's share: the default size does as well
        pass
