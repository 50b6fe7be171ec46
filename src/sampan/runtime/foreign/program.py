"""One OCI runtime program (runc's command line is what all of them speak), called for one container."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat

from sampan.linux import mount, process
from sampan.runtime.foreign import words

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE = 120.0
"""Seconds for a call that the shim waits for: one that hangs must not hold the container for ever."""
_RESET = (signal.SIGPIPE, signal.SIGTERM, signal.SIGHUP)
"""Ignored by shims; ignored signals stay ignored across exec, in the container's program too."""
_SAID = 2000
_NULL_DEVICE = os.makedev(1, 3)


class Call:
    """A running call of the program. It ends by `finish` (after its pidfd was readable) or `wait`."""

    def __init__(self, action: str, name: str, pid: int, log: str, output: int) -> None:
        self.pid = pid
        self.pidfd = process.pidfd_open(pid)
        self._action = action
        self._name = name
        self._log = log
        self._output = output

    def wait(self) -> None:
        """Raises LaunchError when it failed, or took too long and was killed."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if not poll.poll(_PATIENCE * 1000):
            process.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self.finish()

    def finish(self) -> None:
        """Take its exit status. Raises LaunchError when that is not 0."""
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        try:
            if code == 0:
                return
            how = f"exit status {code}" if code > 0 else f"signal: {signal.strsignal(-code)}".lower()
            said = self._said()
            outcome = f"{self._name} did not terminate successfully: {how}" + (f": {said}" if said else "")
            raise words.failure(self._action, self._log, outcome)
        finally:
            self._close()

    def _said(self) -> str:
        if self._output < 0:
            return ""
        return os.pread(self._output, _SAID, 0).decode("utf-8", "replace").strip()

    def _close(self) -> None:
        os.close(self.pidfd)
        if self._output >= 0:
            os.close(self._output)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._log)


class Program:
    """The program with the arguments that the engine's configuration gives it, and its state directory."""

    def __init__(self, argv: list[str], state: str) -> None:
        """`state`: a directory of this container's own; logs of single calls are put into it as well."""
        self._argv = argv
        self._state = state
        self._calls = 0

    @property
    def name(self) -> str:
        return self._argv[0]

    def call(self, action: str, arguments: list[str], stdio: tuple[int, int, int] | None = None) -> Call:
        """Start `program … action arguments`. `stdio` becomes the container's; without, its output is kept for errors.

        Raises LaunchError when there is no such program.
        """
        self._calls += 1
        log = f"{self._state}/log-{self._calls}.json"
        os.makedirs(self._state, mode=0o700, exist_ok=True)
        argv = [*self._argv, "--root", f"{self._state}/root", "--log", log, "--log-format", "json"]
        output = -1
        null = _unowned_null()
        try:
            if stdio is None:
                output = os.memfd_create("output", os.MFD_CLOEXEC)
                theirs = (null, output, output)
            else:
                stdin, stdout, stderr = (null if _is_null(each) else each for each in stdio)
                theirs = (stdin, stdout, stderr)
            pid = _spawn(_find(self.name), [*argv, action, *arguments], theirs)
        except OSError as error:
            if output >= 0:
                os.close(output)
            outcome = f"fork/exec {self.name}: {(error.strerror or '').lower()}"
            raise words.failure(action, log, outcome) from error
        finally:
            os.close(null)
        return Call(action, self.name, pid, log, output)

    def run(self, action: str, arguments: list[str]) -> None:
        """Call it and wait. Raises LaunchError."""
        self.call(action, arguments).wait()


def _unowned_null() -> int:
    """The null device by a read-only mount of its own: it is read and written as ever, but cannot change hands.

    A runtime gives the standard streams to the container's user, and crun (1.8) does that to the host's /dev/null too.
    """
    place = mount.clone_mount("/dev/null")
    try:
        mount.mount_setattr(place, set_attributes=mount.MOUNT_ATTR_RDONLY)
        return os.open(f"/proc/self/fd/{place}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(place)


def _is_null(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL_DEVICE


def _spawn(path: str, argv: list[str], stdio: tuple[int, int, int]) -> int:
    """The pid of a child that executes the program, and is killed when we are. Raises OSError when it cannot be executed."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            # Half a container must not come to be whole in nobody's charge.
            process.set_parent_death_signal(signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            for ignored in _RESET:
                signal.signal(ignored, signal.SIG_DFL)
            for number, descriptor in enumerate(stdio):
                os.dup2(descriptor, number)
            # Nothing of our environment: with NOTIFY_SOCKET or LISTEN_FDS in it, runc would do more than it was asked for.
            os.execve(path, argv, {"PATH": PATH})
        except OSError as error:
            os.write(writing, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(writing)
    with open(reading, "rb") as failed:
        reason = failed.read()
    if reason:
        os.waitpid(pid, 0)
        raise OSError(int(reason), os.strerror(int(reason)), path)
    return pid


def _find(name: str) -> str:
    """A name without a slash is looked for where system programs are."""
    if "/" in name:
        return name
    for directory in PATH.split(":"):
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    raise FileNotFoundError(2, "executable file not found in $PATH", name)


def reap_strays(known: set[int]) -> list[int]:
    """Reap what has ended among the children that nobody asked for; the pids of those that have not.

    They are processes in between, and orphans of the container's. Who is no child any more is taken out of `known`:
    the pid may come again.
    """
    with open("/proc/thread-self/children", encoding="ascii") as file:
        children = [int(word) for word in file.read().split()]
    known.intersection_update(children)
    strays = [pid for pid in children if pid not in known]
    return [pid for pid in strays if os.waitpid(pid, os.WNOHANG) == (0, 0)]
