"""Processes: namespaces, fork-like clone3, pidfds, prctl, descriptors, and who a process is."""

from __future__ import annotations

import ctypes
import os
import signal
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from sampan.linux.libc import checked, failure, libc, libc_holding_gil, syscall, syscall_number

if TYPE_CHECKING:
    from collections.abc import Callable

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_INTO_CGROUP = 0x200000000

SYS_PIDFD_SEND_SIGNAL = 424
SYS_CLONE3 = 435
SYS_CLOSE_RANGE = 436
SYS_PIDFD_GETFD = 438

CLOSE_RANGE_UNSHARE = 2
CLOSE_RANGE_CLOEXEC = 4

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_MM = 35
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47

AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` (CLONE_NEW…) for fresh ones. unshare(2)."""
    checked(libc.unshare(ctypes.c_int(flags)))


def setns(descriptor: int, flags: int = 0) -> None:
    """Enter the namespace behind a descriptor, or with a pidfd all of that process's that `flags` names.
    setns(2).
    """
    checked(libc.setns(descriptor, flags))


def sethostname(name: str) -> None:
    raw = os.fsencode(name)
    checked(libc.sethostname(raw, ctypes.c_size_t(len(raw))))


def setdomainname(name: str) -> None:
    raw = os.fsencode(name)
    checked(libc.setdomainname(raw, ctypes.c_size_t(len(raw))))


class _CloneArgs(ctypes.Structure):
    """struct clone_args of linux/sched.h, 88 bytes (Linux 5.7)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack",
            "stack_size", "tls", "set_tid", "set_tid_size", "cgroup",
        )
    )  # fmt: skip


class Cloned(NamedTuple):
    """What `clone3` returned: `pid` 0 in the child; `pidfd` (close-on-exec) in the parent, -1 in the
    child.
    """

    pid: int
    pidfd: int


def clone3(flags: int = 0, cgroup: int | None = None) -> Cloned:
    """Fork with namespace flags and, on cgroup v2, into the cgroup whose directory `cgroup` is open.

    With CLONE_PARENT the new process is a sibling: the child of the caller's parent, who reaps it.

    Like os.fork it returns twice, and the interpreter is usable in the child. The caller must be
    single-threaded: the C library's fork handlers (which repair malloc's locks) do not run.
    """
    pidfd = ctypes.c_int(-1)
    arguments = _CloneArgs(
        flags=flags | CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup is not None else 0),
        pidfd=ctypes.addressof(pidfd),
        # A sibling ends with the caller's own signal, and the kernel insists on none being named.
        exit_signal=0 if flags & CLONE_PARENT else signal.SIGCHLD,
        cgroup=cgroup or 0,
    )
    api = ctypes.pythonapi
    size = ctypes.c_size_t(ctypes.sizeof(arguments))
    number = ctypes.c_long(SYS_CLONE3)
    api.PyOS_BeforeFork()
    pid = int(libc_holding_gil.syscall(number, ctypes.byref(arguments), size))
    if pid == 0:
        api.PyOS_AfterFork_Child()
        return Cloned(0, -1)
    error = None if pid > 0 else failure()
    api.PyOS_AfterFork_Parent()
    if error is not None:
        raise error
    return Cloned(pid, pidfd.value)


def sibling_clone() -> Callable[[], int]:
    """A function that forks a child of the caller's parent: 0 in the child, else its pid. See `clone3`.

    Everything that one call needs is made now, once: the caller is a process that must write to as few pages as possible.
    """
    arguments = _CloneArgs(flags=CLONE_PARENT)
    number = ctypes.c_long(SYS_CLONE3)
    address = ctypes.c_void_p(ctypes.addressof(arguments))
    size = ctypes.c_size_t(ctypes.sizeof(arguments))
    system_call = libc_holding_gil.syscall
    before, after = ctypes.pythonapi.PyOS_BeforeFork, ctypes.pythonapi.PyOS_AfterFork_Parent
    in_child = ctypes.pythonapi.PyOS_AfterFork_Child

    def clone(keep: object = arguments) -> int:
        before()
        pid = int(system_call(number, address, size))
        if pid == 0:
            in_child()
            return 0
        after()
        return pid

    return clone


def pidfd_open(pid: int) -> int:
    """A close-on-exec descriptor of the process; readable once it has ended. pidfd_open(2)."""
    return os.pidfd_open(pid)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Signal exactly the process that the pidfd was opened for. Raises ProcessLookupError once it is
    reaped.
    """
    syscall(SYS_PIDFD_SEND_SIGNAL, pidfd, number, None, 0)


def pidfd_getfd(pidfd: int, descriptor: int) -> int:
    """A duplicate of another process's descriptor. pidfd_getfd(2)."""
    return syscall(SYS_PIDFD_GETFD, pidfd, descriptor, 0)


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """Close (or with CLOSE_RANGE_CLOEXEC mark) all descriptors of the range, both ends included."""
    syscall(SYS_CLOSE_RANGE, first, last, flags)


def close_all_except(keep: list[int], first: int = 3, flags: int = 0) -> None:
    """Close (or with CLOSE_RANGE_CLOEXEC mark) every descriptor from `first` on that is not in `keep`."""
    for kept in sorted(set(keep)):
        if kept < first:
            continue
        if kept > first:
            close_range(first, kept - 1, flags)
        first = kept + 1
    close_range(first, flags=flags)


def execveat(descriptor: int, path: str | bytes, argv: list[str], env: list[str], flags: int = 0) -> None:
    """Execute the file `path` relative to `descriptor` (AT_EMPTY_PATH: the descriptor itself). Returns only
    by raising.
    """
    c_argv = (ctypes.c_char_p * (len(argv) + 1))(*[os.fsencode(a) for a in argv], None)
    c_env = (ctypes.c_char_p * (len(env) + 1))(*[os.fsencode(e) for e in env], None)
    syscall(syscall_number("execveat"), descriptor, ctypes.c_char_p(os.fsencode(path)), c_argv, c_env, flags)


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2) with integer arguments."""
    return checked(
        libc.prctl(
            ctypes.c_int(option),
            ctypes.c_ulong(arg2),
            ctypes.c_ulong(arg3),
            ctypes.c_ulong(arg4),
            ctypes.c_ulong(arg5),
        )
    )


def set_parent_death_signal(number: int) -> None:
    """Be sent `number` when the parent *thread* ends. Cleared by fork and by executing set-id programs."""
    prctl(PR_SET_PDEATHSIG, number)


def set_dumpable(dumpable: bool) -> None:
    """False: nobody without CAP_SYS_PTRACE over us may open our /proc/PID files or trace us; exec resets
    it.
    """
    prctl(PR_SET_DUMPABLE, int(dumpable))


def set_child_subreaper() -> None:
    """Become the parent of orphaned descendants."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def unset_child_subreaper() -> None:
    """Leave orphaned descendants to the next ancestor that takes them."""
    prctl(PR_SET_CHILD_SUBREAPER, 0)


def set_no_new_privileges() -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def set_keep_capabilities(keep: bool) -> None:
    """Keep permitted capabilities when all uids leave 0."""
    prctl(PR_SET_KEEPCAPS, int(keep))


def set_name(name: str) -> None:
    """The `comm` that ps shows, cut to 15 bytes."""
    buffer = ctypes.create_string_buffer(os.fsencode(name)[:15])
    checked(libc.prctl(PR_SET_NAME, buffer, 0, 0, 0))


@cache
def boot_id() -> str:
    """Identifies this boot of the kernel."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def start_time(pid: int) -> int:
    """Clock ticks after boot at which the process started: field 22 of /proc/PID/stat. Raises
    ProcessLookupError.
    """
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(3, f"no process {pid}") from None
    # The name, field 2, is in parentheses and may itself contain spaces and parentheses.
    return int(text[text.rindex(b")") + 2 :].split()[19])


def children() -> list[int]:
    """The caller's living and unreaped children. Raises FileNotFoundError on a kernel that does not list them."""
    pid = os.getpid()
    descriptor = os.open(f"/proc/self/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return [int(word) for word in os.read(descriptor, 1 << 16).split()]
    finally:
        os.close(descriptor)


def is_running(pid: int, started: int) -> bool:
    """Whether the process with this pid *and* start time exists (a zombie counts)."""
    try:
        return start_time(pid) == started
    except ProcessLookupError:
        return False
