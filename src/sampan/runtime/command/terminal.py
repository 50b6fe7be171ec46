"""A process's terminal: handing the master side to a console socket, or being the terminal ourselves."""

from __future__ import annotations

import array
import fcntl
import os
import select
import signal
import socket
import termios
import tty

from sampan.errors import InvalidParameter

_NOT_FORWARDED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG}


def send_master(path: str, master: int) -> None:
    """Pass the master side to the listener at `path`. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InvalidParameter(f"dial unix {path}: connect: {reason}") from None
        connection.sendmsg(
            [b"/dev/ptmx"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [master]))]
        )


def check_console(*, wants_terminal: bool, detached: bool, console_socket: str) -> None:
    """Refuse combinations in which nobody would own the terminal, in runc's words. Raises InvalidParameter."""
    if detached and wants_terminal and not console_socket:
        raise InvalidParameter("cannot allocate tty if runc will detach without setting console socket")
    if console_socket and not (detached and wants_terminal):
        raise InvalidParameter("cannot use console socket if runc will not detach or allocate tty")


def copy_size(master: int) -> None:
    """Give the container's terminal the size of ours; nothing when we have none."""
    try:
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(master, termios.TIOCSWINSZ, size)
    except OSError:
        return


class Foreground:
    """Signals to a process in front, and bytes between its terminal (if any) and ours, until it ends.

    Make it before the process is started: a signal that comes in between is then forwarded too.
    """

    def __init__(self, pid: int, pidfd: int, master: int | None) -> None:
        self._pid = pid
        self._pidfd = pidfd
        self._master = master
        self._signals, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in signal.valid_signals() - _NOT_FORWARDED:
            try:
                signal.signal(number, lambda number, frame: None)
            except OSError:
                continue

    def wait(self) -> int:
        """The exit code; 128+n after signal n."""
        saved = None
        if self._master is not None and os.isatty(0):
            saved = termios.tcgetattr(0)
            tty.setraw(0)
            copy_size(self._master)
        try:
            self._loop(self._signals)
        finally:
            signal.set_wakeup_fd(-1)
            if saved is not None:
                termios.tcsetattr(0, termios.TCSADRAIN, saved)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return code if code >= 0 else 128 - code

    def _loop(self, signals: int) -> None:
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        if self._master is not None:
            poll.register(self._master, select.POLLIN)
            poll.register(0, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == signals:
                    self._forward(os.read(signals, 64))
                elif descriptor == self._pidfd:
                    self._drain()
                    return
                elif descriptor == self._master:
                    if not self._copy(self._master, 1):
                        poll.unregister(self._master)
                elif self._master is not None and not self._copy(0, self._master):
                    poll.unregister(0)

    def _forward(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGWINCH and self._master is not None:
                copy_size(self._master)
                continue
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                return

    def _copy(self, source: int, target: int) -> bool:
        try:
            data = os.read(source, 65536)
        except OSError:
            return False
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
        return bool(data)

    def _drain(self) -> None:
        """What the process printed last is still in the terminal."""
        if self._master is None:
            return
        os.set_blocking(self._master, False)
        while self._copy(self._master, 1):
            pass
