"""A stub's life after the clone: receive the configuration, become what it says, wait, execute.

Nothing is imported from here on: after pivot_root an import would execute the image's files as Python.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import fcntl
import gc
import os
import select
import socket
from typing import TYPE_CHECKING, Any, NoReturn

from sampan.linux import process, sockets
from sampan.runtime.container import hooks, notification
from sampan.runtime.container.departure import CHANNEL_FLOOR, move_up
from sampan.runtime.container.enter import enter
from sampan.runtime.container.failure import Step, to_message
from sampan.runtime.container.init import Inherited, become_init

if TYPE_CHECKING:
    from sampan.cgroups import Entrance
    from sampan.runtime.container.departure import Departure

_FIXED = (_signal.SIGKILL, _signal.SIGSTOP)
_EXIT_CODES = {"not-found": 127, "permission": 126, "format": 126}


def main(channel: socket.socket, pidfd: int | None, entrance: Entrance) -> NoReturn:
    """`pidfd`: of the init whose container to join; None to become one. `entrance`: of the cgroup. Ends in execve or exit."""
    try:
        gc.disable()
        with Step("moving into the container's cgroup"):
            entrance.enter()
        _reset_signals()
        process.set_name("sampan-stub")
        # CVE-2024-21626: nothing that the parent has open may survive in here.
        process.close_all_except([channel.fileno()] + ([pidfd] if pidfd is not None else []))
        channel = socket.socket(fileno=move_up(channel.detach()))
        message, descriptors = sockets.receive(channel)
        # Now, because a limit on open files may soon forbid it.
        inherited = Inherited(message["layout"], [move_up(descriptor) for descriptor in descriptors])
        if pidfd is None:
            departure, console = become_init(channel, message, inherited)
        else:
            departure, console = enter(pidfd, message, inherited)
        sockets.send(channel, {"ready": True}, [console] if console >= 0 else [])
        if console >= 0:
            os.close(console)
        _wait_and_leave(channel, message, inherited, departure)
    except sockets.Disconnected:
        pass
    except BaseException as error:
        _report(channel, error)
    finally:
        os._exit(1)


def _reset_signals() -> None:
    # Python ignores SIGPIPE and SIGXFSZ, and an ignored signal stays ignored across execve. By the module beneath `signal`,
    # which makes no enumerations of it all: for 64 numbers that takes more than many a mount.
    _signal.set_wakeup_fd(-1)
    for number in range(1, _signal.NSIG):
        if number not in _FIXED and _signal.getsignal(number) != _signal.SIG_DFL:
            try:
                _signal.signal(number, _signal.SIG_DFL)
            except (OSError, ValueError):
                continue  # numbers that the C library keeps to itself
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _wait_and_leave(
    channel: socket.socket, message: dict[str, Any], inherited: Inherited, departure: Departure
) -> NoReturn:
    answer = _wait_for_start(channel, inherited.one("listener"))
    try:
        if message.get("hooks"):
            hooks.run_all("startContainer", message["hooks"], message["state"].encode())
        error = departure.leave(
            inherited.many("preserved"),
            lambda listener: notification.announce(answer, listener, message["agent"]),
        )
    except Exception as failed:
        _report(answer, failed)
        os._exit(1)
    _report(answer, error)
    os._exit(_EXIT_CODES.get(error.kind, 1))


def _wait_for_start(channel: socket.socket, listener: int) -> socket.socket:
    """Until told to start, by the parent or, when there is a listener, by whoever connects.

    Returns the socket that wants to know how it went: it hears nothing but its end when execve succeeds.
    """
    if listener < 0:
        sockets.receive(channel)
        return channel
    server = socket.socket(fileno=listener)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(server, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == server.fileno():
                connection = server.accept()[0]
                try:
                    sockets.receive(connection)
                except OSError:
                    continue
                return _out_of_the_way(connection)
            try:
                sockets.receive(channel)
            except OSError:
                # `create` has ended, as it should: `start` will come by the listener.
                poll.unregister(channel)
                continue
            return channel


def _out_of_the_way(connection: socket.socket) -> socket.socket:
    """A connection accepted late has a low number, which a preserved descriptor may be about to take."""
    try:
        number = fcntl.fcntl(connection, fcntl.F_DUPFD_CLOEXEC, CHANNEL_FLOOR)
    except OSError:
        return connection  # a limit on open files forbids it; then nothing that high was preserved either
    connection.close()
    return socket.socket(fileno=number)


def _report(channel: socket.socket, error: BaseException) -> None:
    try:
        sockets.send(channel, to_message(error))
    except OSError:
        pass
