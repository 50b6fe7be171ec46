"""Real processes under the filter."""

from __future__ import annotations

import ctypes
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.oci.defaults import CAPABILITIES
from sampan.oci.runtime import Seccomp
from sampan.seccomp import (
    compile_filter,
    host_architecture,
    host_kernel,
    install,
    load_profile,
    resolve,
    send_listener,
)

pytestmark = pytest.mark.root
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000


def confined(filter_: Seccomp, action: Callable[[], int]) -> int:
    """Exit status of `action` in a child under the filter; negative: killed by that signal."""
    program = compile_filter(filter_)
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            install(program)
            status = action()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def errno_of(number: int, *arguments: int) -> int:
    ctypes.set_errno(0)
    LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    return ctypes.get_errno()


@pytest.fixture(scope="module")
def default() -> Seccomp:
    return resolve(load_profile(), CAPABILITIES, arch=host_architecture(), kernel=host_kernel())


def test_a_program_runs_under_the_default_profile(default: Seccomp) -> None:
    def run() -> int:
        os.execv("/bin/sh", ["sh", "-c", "ls / > /dev/null && exit 7"])

    assert confined(default, run) == 7


def test_forbidden_calls_give_eperm_and_unknown_ones_enosys(default: Seccomp) -> None:
    assert confined(default, lambda: LIBC.unshare(CLONE_NEWUSER) and ctypes.get_errno()) == 1
    assert confined(default, lambda: errno_of(435, 0, 0)) == 38  # clone3
    assert confined(default, lambda: errno_of(1000)) == 38
    assert confined(default, lambda: errno_of(425, 1, 0)) == 1  # io_uring_setup


def test_kill_process(default: Seccomp) -> None:
    filter_: Seccomp = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_KILL_PROCESS"}],
    }
    assert confined(filter_, lambda: os.getpriority(os.PRIO_PROCESS, 0)) == -31  # SIGSYS


def test_64_bit_arguments() -> None:
    filter_: Seccomp = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {
                "names": ["lseek"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 95,
                "args": [{"index": 1, "value": 0x1_0000_0001, "op": "SCMP_CMP_EQ"}],
            }
        ],
    }

    def run() -> int:
        descriptor = os.open("/proc/self/exe", os.O_RDONLY)
        os.lseek(descriptor, 1, 0)
        os.lseek(descriptor, 0x1_0000_0000, 0)
        try:
            os.lseek(descriptor, 0x1_0000_0001, 0)
        except OSError as error:
            return error.errno or 0
        return 0

    assert confined(filter_, run) == 95


def test_notifications_reach_the_agent(tmp_path: Path) -> None:
    """install() returns a listener, and send_listener() delivers it with the state."""
    path = str(tmp_path / "agent.sock")
    filter_: Seccomp = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}],
    }
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(path)
        agent.listen()

        def run() -> int:
            listener = install(compile_filter(filter_))
            assert listener is not None
            send_listener(path, listener, {"id": "c1"})
            return 5

        assert confined({"defaultAction": "SCMP_ACT_ALLOW"}, run) == 5
        connection, _ = agent.accept()
        with connection:
            message, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        assert json.loads(message) == {"id": "c1"}
        assert len(descriptors) == 1
        os.close(descriptors[0])
